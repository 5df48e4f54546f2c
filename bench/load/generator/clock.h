// The one clock of the generator.
#pragma once

#include <time.h>

#include <cstdint>

namespace load {

constexpr int64_t kSecond = 1'000'000'000, kMillisecond = 1'000'000;

inline int64_t NowNs() {
  timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return now.tv_sec * kSecond + now.tv_nsec;
}

}  // namespace load
