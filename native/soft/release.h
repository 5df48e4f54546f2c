// Which release of HailoRT this library passes for, and what differs between the releases.
#pragma once

#include "../abi.h"

namespace soft {

using namespace hailo_abi;

/// SOFTHAILORT_VERSION, read once; 4.23.0 when it is unset or no version.
const Version& LibraryVersion();

/// True from 4.`minor` on. The major version is always 4.
bool IsSince(uint32_t minor);

/// The library's own name of a status, null for numbers that this release does not know.
const char* StatusMessage(int32_t status);

// Statuses that were given better numbers over time.
Status HefCorrupted();
Status HefNotSupported();
Status HefVersionUnknown();
Status HefNotCompatible();
Status NoDeviceFound();
Status ControlTimeout();

size_t ExtendedInformationBytes();

/// The value of an environment variable, `otherwise` when unset.
const char* EnvironmentOr(const char* name, const char* otherwise);

}  // namespace soft
