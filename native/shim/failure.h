// How opening or running a stream can fail, in the words that the engine uses for it.
#pragma once

#include <stdexcept>
#include <string>

#include "../abi.h"

namespace shim {

/// The order is that of FAILURE_CAUSES in native/index.ts.
enum class Cause {
  kLibraryMissing,
  kLibraryUnsupported,
  kVersionMismatch,
  kNoDevice,
  kDeviceInUse,
  kDeviceLost,
  kDeviceHot,
  kTimeout,
  kAborted,
  kHefRefused,
  kOpenFailed,
};

/// Thrown while opening; what fails on the hot path is a status.
class Failure : public std::runtime_error {
 public:
  Failure(Cause cause, const std::string& message) : std::runtime_error(message), cause(cause) {}

  const Cause cause;
};

/// What a status means once a library and a device are there.
Cause CauseOf(hailo_abi::Status status);

}  // namespace shim
