// The modelled speed of the hardware: a pipeline that takes a frame every 1/fps seconds and keeps each for a
// while. Off by default: then the device is as fast as the CPU runs the network.
#pragma once

#include <chrono>
#include <cstdint>
#include <random>

namespace soft {

using Clock = std::chrono::steady_clock;

/// SOFTHAILORT_TIMING, "name=value" separated by commas. What is not named costs no time.
struct Timing {
  bool is_on = false;  // some time is modelled; a depth alone is none
  double latency_us = 0;
  double frames_per_second = 0;  // 0: no limit
  double pcie_us = 0;
  double completion_us = 0;  // from the interrupt to the callback
  double jitter = 0;         // sigma of the latency's logarithm
  size_t depth = 8;          // transfers in flight per stream, as HailoRT 4.21+ with its service compiled in
};

const Timing& ConfiguredTiming();

/// When the frames of one device are done, in the order they were given to it. Not thread-safe.
class Pipeline {
 public:
  /// @param clock_ratio 1 at full speed; the throughput of a throttled chip falls with its clock
  Clock::time_point Completion(Clock::time_point arrival, double clock_ratio);

 private:
  Clock::time_point free_at_{}, last_done_{};
  std::mt19937 random_{1};  // a fixed seed: two runs see the same hardware
  std::normal_distribution<double> normal_;
};

}  // namespace soft
