// What to send, how, and what to expect: written by ../load.ts, read from standard input.
#pragma once

#include <cstdint>
#include <istream>
#include <string>
#include <string_view>
#include <vector>

namespace load {

/// What a right answer looks like. Nothing else of it is looked at.
struct Expectation {
  enum Mode { kAnything, kExact, kPrefix };

  bool IsMet(std::string_view body) const {
    if (mode == kAnything) return true;
    const size_t end = offset + bytes.size();
    if (mode == kExact ? body.size() != end : body.size() < end) return false;
    return body.compare(offset, bytes.size(), bytes) == 0;
  }

  Mode mode = kAnything;
  size_t offset = 0;  // kExact: what is before it may be anything, but is there
  std::string bytes;
};

struct Request {
  std::string bytes;  // HTTP: head and body; WebSocket: one whole frame, masked with zeros
  uint32_t window_count = 1;
  Expectation expectation;
};

/// How a WebSocket server's messages are told apart: by the byte at `type_offset`. -1 for what there is not.
struct Dialect {
  int type_offset = -1;  // -1: every message is a result
  int result_type = -1, error_type = -1, credit_type = -1, welcome_type = -1;
  int sequence_offset = -1;  // uint32 in results and errors: that of the window
  int credits_offset = -1;   // uint16 in the welcome: windows that may be sent
  int count_offset = -1;     // uint32 in a credit: windows more
  int status_offset = -1;    // uint8 in an error
  int retry_offset = -1;     // uint32 in an error, ms
  int patch_offset = -1;     // in a request's bytes: where its uint32 sequence goes
};

struct Plan {
  std::string path;  // of a Unix-domain socket; empty: 127.0.0.1:port
  uint16_t port = 0;
  size_t connections = 1;
  size_t in_flight = 1;        // on each connection
  double rate_per_second = 0;  // 0: closed loop
  bool is_poisson = false;
  bool gives_up = false;  // what is due while no connection is free is never sent
  uint64_t seed = 1;
  int64_t warm_up_ms = 0, duration_ms = 0;
  int64_t grace_ms = 0;  // for answers that have not come at the end
  int server_pid = 0;    // 0: not told
  bool heeds_retry_after = false;
  std::vector<bool> is_refusal = std::vector<bool>(kStatuses);   // by status
  std::vector<bool> is_too_late = std::vector<bool>(kStatuses);  // by status
  std::vector<Request> requests;
  std::vector<uint32_t> order;  // of indices into `requests`, over and over

  bool is_websocket = false;
  Dialect dialect;
  std::string upgrade;  // the HTTP request that upgrades
  std::string hello;    // a whole frame, sent first; may be empty

  static constexpr size_t kStatuses = 600;
};

/// @throws std::runtime_error
Plan ReadPlan(std::istream& input);

}  // namespace load
