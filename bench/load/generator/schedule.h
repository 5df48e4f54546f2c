// When the requests of an open loop are due, whatever the server does.
#pragma once

#include <cmath>
#include <cstdint>
#include <random>

#include "clock.h"

namespace load {

class Schedule {
 public:
  Schedule(double rate_per_second, bool is_poisson, uint64_t seed)
      : interval_ns_(static_cast<double>(kSecond) / rate_per_second), is_poisson_(is_poisson), random_(seed) {}

  void Start(int64_t start_ns) { start_ns_ = start_ns; }
  /// Of the next request.
  int64_t due_ns() const { return start_ns_ + static_cast<int64_t>(offset_ns_); }

  void Advance() { offset_ns_ += is_poisson_ ? interval_ns_ * gap_(random_) : interval_ns_; }

 private:
  const double interval_ns_;
  const bool is_poisson_;
  std::mt19937_64 random_;
  std::exponential_distribution<double> gap_{1};
  int64_t start_ns_ = 0;
  double offset_ns_ = 0;
};

}  // namespace load
