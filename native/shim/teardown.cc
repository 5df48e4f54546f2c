#include "teardown.h"

#include <condition_variable>
#include <mutex>
#include <thread>

namespace shim {
namespace {

struct Progress {
  std::mutex mutex;
  std::condition_variable ended;
  size_t running = 0;
};

/// Never destroyed: a thread that hangs may outlive the static objects of the process.
Progress& TheProgress() {
  static Progress& progress = *new Progress;
  return progress;
}

}  // namespace

void TearDown(std::function<void()> teardown) {
  Progress& progress = TheProgress();
  {
    const std::lock_guard<std::mutex> lock(progress.mutex);
    progress.running++;
  }
  std::thread([&progress, teardown = std::move(teardown)]() mutable {
    teardown();
    teardown = nullptr;  // what it holds goes before anybody is told
    const std::lock_guard<std::mutex> lock(progress.mutex);
    progress.running--;
    progress.ended.notify_all();
  }).detach();
}

bool AwaitTeardowns(std::chrono::milliseconds timeout) {
  Progress& progress = TheProgress();
  std::unique_lock<std::mutex> lock(progress.mutex);
  return progress.ended.wait_for(lock, timeout, [&] { return progress.running == 0; });
}

}  // namespace shim
