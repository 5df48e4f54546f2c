#include "http.h"

#include <strings.h>

#include <cstdlib>
#include <cstring>

#include "generator.h"

namespace load {
namespace {

/// What follows `name` in the line; empty when the line is about something else.
std::string_view ValueOf(std::string_view line, std::string_view name) {
  if (line.size() <= name.size() || strncasecmp(line.data(), name.data(), name.size()) != 0) return {};
  line.remove_prefix(name.size());
  while (!line.empty() && line.front() == ' ') line.remove_prefix(1);
  return line;
}

}  // namespace

Parsed ParseHead(std::string_view bytes, AnswerHead* head) {
  bool has_length = false;
  for (size_t start = 0;;) {
    const void* const newline = std::memchr(bytes.data() + start, '\n', bytes.size() - start);
    if (newline == nullptr) return Parsed::kIncomplete;
    const size_t end = static_cast<size_t>(static_cast<const char*>(newline) - bytes.data());
    // The end of a line is a '\r': strtoul stops there.
    const std::string_view line = bytes.substr(start, end - start);
    if (start == 0) {
      if (line.size() < 12 || line.compare(0, 7, "HTTP/1.") != 0) return Parsed::kBroken;
      head->status = static_cast<uint32_t>(std::strtoul(line.data() + 9, nullptr, 10));
      if (head->status < 200 || head->status >= Plan::kStatuses) return Parsed::kBroken;
    } else if (line.size() <= 1) {
      head->bytes = end + 1;
      return has_length || head->status == 204 ? Parsed::kWhole : Parsed::kBroken;
    }
    start = end + 1;

    // Most lines are told by their first letter.
    const char first = static_cast<char>(line[0] | 0x20);
    if (first == 'c') {
      if (const auto length = ValueOf(line, "content-length:"); !length.empty()) {
        head->content_length = std::strtoul(length.data(), nullptr, 10);
        has_length = true;
      } else if (!ValueOf(ValueOf(line, "connection:"), "close").empty()) {
        head->is_last = true;
      }
    } else if (first == 'r') {
      if (const auto wait = ValueOf(line, "retry-after:"); !wait.empty())
        head->retry_after_s = std::strtol(wait.data(), nullptr, 10);
    }
  }
}

void HttpConnection::Queue(const Issue& issue) {
  issue_ = issue;
  is_in_flight_ = true;
  Append(issue.request->bytes.data(), issue.request->bytes.size());
}

ssize_t HttpConnection::OnBytes(std::string_view bytes) {
  AnswerHead head;
  const Parsed parsed = ParseHead(bytes, &head);
  const size_t whole = head.bytes + head.content_length;
  if (parsed == Parsed::kIncomplete || (parsed == Parsed::kWhole && bytes.size() < whole)) return 0;
  // More than one answer to one request, or one to none.
  if (parsed == Parsed::kBroken || !is_in_flight_ || bytes.size() > whole) return kBroken;

  is_in_flight_ = false;
  const std::string_view body = bytes.substr(head.bytes);
  const Plan& plan = generator_.plan();
  generator_.Settle(issue_, OutcomeOf(head.status < 300, plan, head.status, issue_, body), head.status, body);
  if (head.is_last) return kEnded;
  if (plan.heeds_retry_after && head.retry_after_s > 0) Pause(head.retry_after_s * kSecond);
  return static_cast<ssize_t>(whole);
}

void HttpConnection::OnLost() {
  if (is_in_flight_) generator_.Settle(issue_, kLost);
  is_in_flight_ = false;
}

}  // namespace load
