#include "websocket.h"

#include <algorithm>
#include <cstring>
#include <limits>

#include "generator.h"

namespace load {
namespace {

constexpr uint8_t kText = 1, kBinary = 2, kClose = 8, kPing = 9, kPong = 10;
/// Of a ping, a pong and a close.
constexpr size_t kLongestControl = 125;
constexpr uint8_t kFinal = 0x80, kMasked = 0x80;
/// A server may take 0 for "no window".
constexpr uint32_t kFirstSequence = 1;

/// Little-endian, as the protocol and every machine that Node.js supports but one. @returns false beyond the end
template <typename Value>
bool Read(std::string_view bytes, int offset, Value* value) {
  if (offset < 0 || bytes.size() < static_cast<size_t>(offset) + sizeof *value) return false;
  std::memcpy(value, bytes.data() + offset, sizeof *value);
  return true;
}

}  // namespace

WebSocketConnection::WebSocketConnection(Generator* generator)
    : Connection(generator), plan_(generator->plan()), dialect_(plan_.dialect), slots_(plan_.in_flight) {}

size_t WebSocketConnection::ProtocolRoom() const { return std::min(slots_.size() - (next_ - oldest_), credits_); }

void WebSocketConnection::OnOpen() {
  oldest_ = next_ = kFirstSequence;
  Append(plan_.upgrade.data(), plan_.upgrade.size());
}

void WebSocketConnection::Queue(const Issue& issue) {
  Slot& slot = SlotOf(next_);
  slot.issue = issue;
  const std::string& frame = issue.request->bytes;
  size_t patched = 0;
  if (dialect_.patch_offset >= 0) {
    const auto offset = static_cast<size_t>(dialect_.patch_offset);
    patched = offset + sizeof next_;
    slot.head.assign(frame, 0, patched);
    std::memcpy(slot.head.data() + offset, &next_, sizeof next_);
    Append(slot.head.data(), patched);
  }
  Append(frame.data() + patched, frame.size() - patched);
  next_++;
  credits_--;
}

ssize_t WebSocketConnection::OnBytes(std::string_view bytes) {
  size_t taken = 0;
  while (taken < bytes.size()) {
    const std::string_view rest = bytes.substr(taken);
    const ssize_t count = is_upgraded_ ? TakeFrame(rest) : TakeUpgrade(rest);
    if (count < 0) return count;
    if (count == 0) break;
    taken += static_cast<size_t>(count);
  }
  return static_cast<ssize_t>(taken);
}

ssize_t WebSocketConnection::TakeUpgrade(std::string_view bytes) {
  const size_t end = bytes.find("\r\n\r\n");
  if (end == std::string_view::npos) return 0;
  if (bytes.compare(0, 12, "HTTP/1.1 101") != 0) return kBroken;
  is_upgraded_ = true;
  Append(plan_.hello.data(), plan_.hello.size());
  if (dialect_.welcome_type < 0) {
    credits_ = std::numeric_limits<size_t>::max();
    SetReady();
  }
  return static_cast<ssize_t>(end + 4);
}

ssize_t WebSocketConnection::TakeFrame(std::string_view bytes) {
  if (bytes.size() < 2) return 0;
  const auto at = [&](size_t index) { return static_cast<uint8_t>(bytes[index]); };
  const uint8_t opcode = at(0) & 0x0f;
  // Fragments and masks are for clients; a length in 64 bits is beyond any answer.
  if (!(at(0) & kFinal) || (at(1) & kMasked) || at(1) == 127) return kBroken;
  size_t start = 2, count = at(1);
  if (count == 126) {
    if (bytes.size() < 4) return 0;
    start = 4;
    count = static_cast<size_t>(at(2)) << 8 | at(3);
  }
  if (bytes.size() < start + count) return 0;
  const std::string_view payload = bytes.substr(start, count);
  if (opcode == kClose) return kEnded;
  if (opcode == kPing && payload.size() > kLongestControl) return kBroken;
  if (opcode == kPing) AnswerPing(payload);
  if ((opcode == kBinary || opcode == kText) && !OnMessage(payload)) return kBroken;
  return static_cast<ssize_t>(start + count);
}

bool WebSocketConnection::OnMessage(std::string_view message) {
  uint8_t type_byte;
  int type = dialect_.result_type;
  if (dialect_.type_offset >= 0) {
    if (!Read(message, dialect_.type_offset, &type_byte)) return false;
    type = type_byte;
  }
  if (type == dialect_.result_type) return OnAnswer(message, true);
  if (type == dialect_.error_type) return OnAnswer(message, false);
  if (type == dialect_.credit_type) {
    uint32_t count;
    if (!Read(message, dialect_.count_offset, &count)) return false;
    credits_ += count;
  }
  if (type == dialect_.welcome_type) {
    uint16_t credits;
    if (!Read(message, dialect_.credits_offset, &credits)) return false;
    credits_ = credits;
    SetReady();
  }
  return true;
}

/// @returns false when it answers no window of ours
bool WebSocketConnection::OnAnswer(std::string_view message, bool is_result) {
  if (oldest_ == next_) return false;
  uint32_t sequence = oldest_;
  if (dialect_.sequence_offset >= 0 && !Read(message, dialect_.sequence_offset, &sequence)) return false;
  // An answer out of order shows as two wrong ones; an error about no window as a broken connection.
  if (!is_result && sequence != oldest_) return false;
  const Issue issue = SlotOf(oldest_++).issue;

  uint8_t status = 0;
  uint32_t retry_after_ms = 0;
  if (!is_result) {
    Read(message, dialect_.status_offset, &status);
    Read(message, dialect_.retry_offset, &retry_after_ms);
  }
  Outcome outcome = OutcomeOf(is_result, plan_, status, issue, message);
  if (sequence + 1 != oldest_) outcome = kWrong;
  generator_.Settle(issue, outcome, status, message);
  if (plan_.heeds_retry_after && retry_after_ms > 0) Pause(retry_after_ms * kMillisecond);
  return true;
}

void WebSocketConnection::AnswerPing(std::string_view payload) {
  if (is_all_sent()) pongs_.clear();
  std::string& pong = pongs_.emplace_back();
  pong += static_cast<char>(kFinal | kPong);
  pong += static_cast<char>(kMasked | payload.size());
  pong.append(4, '\0');
  pong += payload;
  Append(pong.data(), pong.size());
}

void WebSocketConnection::OnLost() {
  for (; oldest_ != next_; oldest_++) generator_.Settle(SlotOf(oldest_).issue, kLost);
  pongs_.clear();
  is_upgraded_ = false;
  credits_ = 0;
}

}  // namespace load
