// The one vdevice of the process, shared by the streams of all workers.
#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "hailort.h"

namespace shim {

struct VDeviceOptions {
  /// As HailoRT lists it, "0001:01:00.0"; empty takes any.
  std::string device_id;
  /// One activated network group for all streams, without HailoRT's scheduler.
  bool is_single_model = false;

  bool operator==(const VDeviceOptions& other) const {
    return device_id == other.device_id && is_single_model == other.is_single_model;
  }
};

struct DeviceState {
  /// NaN when the device did not tell.
  float temperature_celsius;
  /// Of the neural network core; 0 when unknown.
  uint32_t clock_hz;
  /// The clock is below what it was when the device was opened.
  bool is_throttled;
  /// Share of the last second in which at least one window was on the device, 0 to 100.
  float utilisation_percent;
  /// How often this process has opened a device.
  uint64_t generation;
};

class NetworkGroup;

class VDevice {
 public:
  /// The vdevice that the process holds, or a new one when it holds none or has lost it. May block for
  /// seconds: never call it from a thread that serves windows.
  /// @throws Failure, also kDeviceLost while a lost vdevice is not released yet
  static std::shared_ptr<VDevice> Acquire(const Library& library, const VDeviceOptions& options);

  ~VDevice();
  VDevice(const VDevice&) = delete;

  const Library& library;
  const VDeviceOptions options;
  const uint64_t generation;

  const DeviceDescription& description() const { return description_; }

  /// A further handle on this vdevice: what is configured by it goes when it is released.
  /// @throws Failure
  hailo_abi::VDevice CreateHandle() const;
  void ReleaseHandle(hailo_abi::VDevice handle) const;

  /// One configuration at a time. Guards `single_group` too.
  std::mutex configure_mutex;
  /// What all streams share in single-model mode.
  std::weak_ptr<NetworkGroup> single_group;
  /// Network groups that are configured.
  std::atomic<int> group_count{0};

  /// No stream will work on it any more; the next Acquire() opens another.
  void Retire(Cause cause, const std::string& reason);
  bool is_retired() const { return is_retired_.load(std::memory_order_acquire); }
  /// What it was retired for. Only once is_retired().
  Cause retirement_cause() const { return retirement_cause_; }
  std::string retirement_reason() const;

  /// For memory that HailoRT may still write to: freed after it has let go of the device.
  void KeepUntilReleased(std::shared_ptr<void> memory);

  /// How many failures have been counted. A stream remembers the number of its opening.
  int failure_count() const { return failure_count_; }

  /// A stream failed. The first such failure costs only the stream, the second in a row the vdevice;
  /// one that says that the device is gone, the vdevice at once. What fails several streams at a time
  /// is one failure: only a stream that was opened after the last one tells of another.
  void StreamFailed(Cause cause, const std::string& reason, int failure_count_at_opening);
  void StreamSucceeded() {
    if (failures_in_a_row_.load(std::memory_order_relaxed) != 0) failures_in_a_row_ = 0;
  }

  /// Brackets the time of a window on the device.
  void WindowStarted();
  void WindowsEnded(size_t count);

  DeviceState State() const;

 private:
  VDevice(const Library& library, const VDeviceOptions& options, uint64_t generation);

  static void OnNotification(hailo_abi::Device device, const hailo_abi::Notification* notification, void* self);
  void Monitor();
  void PollTemperature();
  void PollUtilisation(std::chrono::nanoseconds elapsed);

  const std::string group_id_;
  hailo_abi::VDevice vdevice_ = nullptr;
  hailo_abi::Device device_ = nullptr;  // owned by the vdevice
  DeviceDescription description_;

  std::atomic<bool> is_retired_{false};
  Cause retirement_cause_ = Cause::kDeviceLost;
  std::string retirement_reason_;
  std::atomic<int> failure_count_{0};
  std::atomic<int> failures_in_a_row_{0};

  std::atomic<float> temperature_celsius_;
  std::atomic<uint32_t> clock_hz_{0};
  std::atomic<float> utilisation_percent_{0};

  mutable std::mutex busy_mutex_;
  size_t windows_on_device_ = 0;
  std::chrono::steady_clock::time_point busy_since_;
  std::chrono::nanoseconds busy_{0};

  mutable std::mutex mutex_;  // guards the retirement and what is kept, and wakes the monitor
  std::vector<std::shared_ptr<void>> kept_;
  std::condition_variable stopping_changed_;
  bool is_stopping_ = false;
  std::thread monitor_;
};

/// Opens no vdevice and claims nothing: what the devices of this machine are.
/// @throws Failure
std::vector<DeviceDescription> DescribeDevices(const Library& library);

}  // namespace shim
