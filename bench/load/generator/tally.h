// What became of the requests.
#pragma once

#include <array>
#include <cstdint>
#include <ostream>
#include <string>

#include "histogram.h"
#include "plan.h"
#include "processor_time.h"

namespace load {

enum Outcome {
  kRight,    // a result, and the one that was expected
  kWrong,    // a result, but another
  kRefused,  // in words that mean: not now
  kLate,     // in words that mean: its deadline has passed
  kFailed,   // any other status
  kLost,     // the connection ended before the answer
  kOutcomes
};

/// What only grows. The difference of two readings is what happened between them, whenever it was due.
struct Progress {
  int64_t at_ns = 0;
  std::array<uint64_t, kOutcomes> outcomes{};
  uint64_t right_windows = 0, bytes_sent = 0, bytes_received = 0;
  ProcessorTime time{};
};

struct Tally {
  /// Of the requests that were due in the measured interval.
  uint64_t due_count = 0, unsent_count = 0;
  std::array<uint64_t, kOutcomes> outcomes{};
  std::array<uint64_t, Plan::kStatuses> statuses{};
  Histogram answered, refused, late;  // from when it was due
  Histogram lag;                      // from when it was due and a connection was free, until it was sent

  Progress now, begin, end;
  // Of the whole run. Broken: not to be understood, or to no request of ours; the connection is given up.
  uint64_t lost_connections = 0, broken_answers = 0;
  /// The first answer that was wrong or failed, to be looked at.
  struct {
    bool is_there = false;
    size_t request_index = 0;
    uint32_t status = 0;
    std::string body;
  } first_wrong;
};

/// As one line of JSON.
void Print(const Tally& tally, std::ostream& out);

}  // namespace load
