// Taking things down that may never come down: off the caller's thread.
#pragma once

#include <chrono>
#include <functional>

namespace shim {

/// Runs `teardown` on a thread of its own. One that hangs goes on alone and keeps what it holds:
/// releasing the streams of a dead device may wait for minutes, and memory that the device may still
/// write to must not be freed.
void TearDown(std::function<void()> teardown);

/// Waits until every teardown has ended, at most `timeout`. @return whether they have
bool AwaitTeardowns(std::chrono::milliseconds timeout);

}  // namespace shim
