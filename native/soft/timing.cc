#include "timing.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <sstream>
#include <string>

#include "release.h"

namespace soft {
namespace {

bool ParseTiming(const std::string& text, Timing* timing) {
  std::istringstream settings(text);
  for (std::string setting; std::getline(settings, setting, ',');) {
    const size_t equals = setting.find('=');
    if (equals == std::string::npos) return false;
    const std::string name = setting.substr(0, equals);
    char* end;
    const double value = std::strtod(setting.c_str() + equals + 1, &end);
    if (end == setting.c_str() + equals + 1 || *end != '\0' || !(value >= 0 && value <= 1e9)) return false;
    if (name == "depth") {
      if (value < 1 || value > 1024 || value != std::floor(value)) return false;
      timing->depth = static_cast<size_t>(value);
      continue;
    }
    double* const target = name == "latency_us"      ? &timing->latency_us
                           : name == "fps"           ? &timing->frames_per_second
                           : name == "pcie_us"       ? &timing->pcie_us
                           : name == "completion_us" ? &timing->completion_us
                           : name == "jitter"        ? &timing->jitter
                                                     : nullptr;
    if (target == nullptr) return false;
    *target = value;
    timing->is_on = true;
  }
  return true;
}

Timing ReadTiming() {
  Timing timing;
  const char* const text = EnvironmentOr("SOFTHAILORT_TIMING", "");
  if (ParseTiming(text, &timing)) return timing;
  std::fprintf(stderr, "softhailort: ignoring SOFTHAILORT_TIMING=%s: cannot be parsed\n", text);
  return Timing();
}

Clock::duration Microseconds(double us) {
  return std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double, std::micro>(us));
}

}  // namespace

const Timing& ConfiguredTiming() {
  static const Timing timing = ReadTiming();
  return timing;
}

Clock::time_point Pipeline::Completion(Clock::time_point arrival, double clock_ratio) {
  const Timing& timing = ConfiguredTiming();
  if (!timing.is_on) return arrival;
  const double interval_us = timing.frames_per_second > 0 ? 1e6 / (timing.frames_per_second * clock_ratio) : 0;
  const double latency_us = timing.latency_us * std::exp(timing.jitter * normal_(random_));

  const Clock::time_point start = std::max(arrival + Microseconds(timing.pcie_us), free_at_);
  free_at_ = start + Microseconds(interval_us);
  last_done_ = std::max(start + Microseconds(std::max(latency_us, interval_us)), last_done_);
  return last_done_ + Microseconds(timing.completion_us);
}

}  // namespace soft
