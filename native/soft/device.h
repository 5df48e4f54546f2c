// The software devices: who they are, who holds them, how warm they are, and what they report.
#pragma once

#include <condition_variable>
#include <deque>
#include <string>
#include <vector>

#include "executor.h"

namespace soft {

class Chip;

/// What a caller got as a device handle. Dead for good once the device was unplugged.
struct DeviceHandle {
  explicit DeviceHandle(Chip* chip);
  ~DeviceHandle();
  DeviceHandle(const DeviceHandle&) = delete;
  DeviceHandle& operator=(const DeviceHandle&) = delete;

  /// 36 after an unplugging; with `is_control` also what a firmware that does not answer gives.
  Status Check(bool is_control) const;

  struct Listener {
    NotificationCallback callback = nullptr;
    void* opaque = nullptr;
  };
  static constexpr int32_t kNotificationIds = 32;

  Chip* const chip;
  const uint32_t unplug_count;
  Listener listeners[kNotificationIds];  // guarded by the chip
};

/// One device of this machine. Lives as long as the process.
class Chip {
 public:
  /// All there are, plugged in or not: SOFTHAILORT_DEVICES of them.
  static const std::vector<Chip*>& All();
  /// @returns null when no device has that id
  static Chip* Find(const std::string& id);
  /// To be called when faults were set from outside.
  static void WakeAll();

  const std::string& id() const { return id_; }
  const std::string& serial_number() const { return serial_number_; }
  static Architecture architecture();
  const std::atomic<uint32_t>& clock_mhz() const { return clock_mhz_; }

  /// Takes the device for one vdevice, against all processes, as the driver does with an open file.
  /// @returns 73 when someone has it
  Status Claim();
  /// @param unplug_count of the time of the claim: an unplugging has ended it already
  void Unclaim(uint32_t unplug_count);

  void Attach(Executor* executor);
  void Detach(Executor* executor);
  void AddHandle(DeviceHandle* handle);
  void RemoveHandle(DeviceHandle* handle);
  void Listen(DeviceHandle* handle, int32_t notification_id, DeviceHandle::Listener listener);

  float MeasureTemperature();
  /// One step of what the firmware does about the temperature.
  void MindTemperature(const Faults& faults);

 private:
  explicit Chip(size_t index);
  void AddUser();
  void RemoveUser();
  void Watch();
  void NotifyListeners(std::unique_lock<std::mutex>* lock);
  void Report(int32_t id, const void* body, size_t bytes);
  void WaitForListener(DeviceHandle* handle, std::unique_lock<std::mutex>* lock);

  const std::string id_, serial_number_;
  std::atomic<uint32_t> clock_mhz_;

  // The watch thread runs while anyone has a handle or a vdevice.
  std::mutex users_mutex_;
  size_t users_ = 0;
  std::thread watch_thread_;

  std::mutex mutex_;
  std::condition_variable changed_;
  bool is_stopping_ = false;
  int lock_file_ = -1;
  uint32_t lock_unplug_count_ = 0;
  std::vector<Executor*> executors_;
  std::vector<DeviceHandle*> handles_;
  std::deque<Notification> reports_;
  DeviceHandle* calling_ = nullptr;  // whose listener runs now
  uint32_t next_sequence_ = 0;
  uint32_t zone_ = kZoneGreen;
  uint32_t runtime_errors_seen_ = 0;
};

}  // namespace soft

namespace hailo_abi {
struct DeviceOpaque : soft::DeviceHandle {
  using DeviceHandle::DeviceHandle;
};
}  // namespace hailo_abi
