// What is broken at the moment. One set of faults for the process, given by environment, control call or
// control file; every part of the library asks here before it does what a healthy device would do.
#pragma once

#include <cstdint>

#include "release.h"

namespace soft {

struct FaultSet {
  bool stall = false, drop = false, abort = false, unplug = false, busy = false, firmware = false;
  bool control_timeout = false, runtime_error = false, wrong = false, page_size = false, no_memory = false;
  float temperature_celsius = 48.5F;
  Version driver{};  // 0.0.0: the one that fits the library
  uint32_t slow_shutdown_ms = 0;
  Status fail_submit = kSuccess;
  uint64_t after = 0;  // frames
};

/// The faults in force, and how often those happened that leave a mark behind when they are healed.
/// What was made before an unplugging is dead for good: compare its count with today's.
struct Faults {
  FaultSet set;
  uint64_t version = 0;  // changes whenever something here does
  uint32_t unplug_count = 0;
  uint32_t abort_count = 0;
  uint32_t runtime_error_count = 0;

  bool IsDead(uint32_t unplug_count_at_birth) const { return set.unplug || unplug_count != unplug_count_at_birth; }
};

/// Looks into the control file if that was not done in the last 10 ms.
Faults CurrentFaults();

/// Replaces the set of faults; "" heals. False, and nothing changes, when `text` does not parse.
bool SetFaults(const char* text);

/// Counts a frame that the device completed.
void CountFrame();
uint64_t FrameCount();

}  // namespace soft
