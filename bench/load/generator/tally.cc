#include "tally.h"

#include <iomanip>

namespace load {
namespace {

constexpr const char* kNames[kOutcomes] = {"right", "wrong", "refused", "late", "failed", "lost"};
constexpr size_t kShownBytes = 512;

/// Negative: not known.
void PrintSeconds(std::ostream& out, double begin, double end) {
  if (begin < 0 || end < 0) out << "null";
  else out << end - begin;
}

void PrintOutcomes(std::ostream& out, const std::array<uint64_t, kOutcomes>& counts,
                   const std::array<uint64_t, kOutcomes>& before = {}) {
  for (size_t i = 0; i < kOutcomes; i++) out << '"' << kNames[i] << "\":" << counts[i] - before[i] << ',';
}

void PrintHex(std::ostream& out, const std::string& bytes) {
  constexpr char kDigits[] = "0123456789abcdef";
  for (const char byte : bytes.substr(0, kShownBytes)) out << kDigits[(byte >> 4) & 15] << kDigits[byte & 15];
}

}  // namespace

void Print(const Tally& tally, std::ostream& out) {
  const Progress &begin = tally.begin, &end = tally.end;
  uint64_t ended_count = 0;
  for (const uint64_t count : tally.outcomes) ended_count += count;

  out << std::setprecision(15) << "{\"seconds\":" << static_cast<double>(end.at_ns - begin.at_ns) * 1e-9;
  out << ",\"due\":{";
  PrintOutcomes(out, tally.outcomes);
  out << "\"unanswered\":" << tally.due_count - ended_count << ",\"unsent\":" << tally.unsent_count << '}';
  out << ",\"ended\":{";
  PrintOutcomes(out, end.outcomes, begin.outcomes);
  out << "\"rightWindows\":" << end.right_windows - begin.right_windows << '}';
  out << ",\"bytesSent\":" << end.bytes_sent - begin.bytes_sent;
  out << ",\"bytesReceived\":" << end.bytes_received - begin.bytes_received;

  out << ",\"statuses\":{";
  const char* comma = "";
  for (size_t status = 0; status < tally.statuses.size(); status++) {
    if (tally.statuses[status] == 0) continue;
    out << comma << '"' << status << "\":" << tally.statuses[status];
    comma = ",";
  }
  out << "},\"answered\":";
  tally.answered.Print(out);
  out << ",\"refused\":";
  tally.refused.Print(out);
  out << ",\"late\":";
  tally.late.Print(out);
  out << ",\"lag\":";
  tally.lag.Print(out);

  out << ",\"ownSeconds\":";
  PrintSeconds(out, begin.time.own, end.time.own);
  out << ",\"serverSeconds\":";
  PrintSeconds(out, begin.time.server, end.time.server);
  out << ",\"serverMainThreadSeconds\":";
  PrintSeconds(out, begin.time.server_main_thread, end.time.server_main_thread);
  out << ",\"lostConnections\":" << tally.lost_connections << ",\"brokenAnswers\":" << tally.broken_answers
      << ",\"firstWrong\":";
  if (tally.first_wrong.is_there) {
    out << "{\"request\":" << tally.first_wrong.request_index << ",\"status\":" << tally.first_wrong.status
        << ",\"body\":\"";
    PrintHex(out, tally.first_wrong.body);
    out << "\"}";
  } else out << "null";
  out << "}\n";
}

}  // namespace load
