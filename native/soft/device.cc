#include "device.h"

#include <fcntl.h>
#include <pthread.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace soft {
namespace {

constexpr auto kWatchPeriod = std::chrono::milliseconds(10);

// A Hailo-8's thresholds and clock steps, from a log of a real one that got too hot.
constexpr float kOrangeCelsius = 104, kGreenCelsius = 98, kShutdownCelsius = 120;
constexpr uint32_t kFullClockMhz = 400, kSlowestClockMhz = 200, kClockStepMhz = 50;

std::string Format(const char* pattern, unsigned number) {
  char text[32];
  std::snprintf(text, sizeof text, pattern, number);
  return text;
}

size_t DeviceCount() {
  const char* const text = EnvironmentOr("SOFTHAILORT_DEVICES", "1");
  char* end;
  const long count = std::strtol(text, &end, 10);
  if (end != text && *end == '\0' && count >= 0 && count <= 16) return static_cast<size_t>(count);
  std::fprintf(stderr, "softhailort: SOFTHAILORT_DEVICES=%s is not 0 to 16, using 1\n", text);
  return 1;
}

/// Opens and locks a device's file. -1 with EWOULDBLOCK when someone else has it.
int LockFile(const std::string& id) {
  const char* const given = std::getenv("SOFTHAILORT_LOCK_DIR");
  const std::string folder = given != nullptr ? given : P_tmpdir + Format("/softhailort-%u", geteuid());
  mkdir(folder.c_str(), 0700);

  // The default folder lies where everyone may write: one that is not ours alone is not to be trusted.
  struct stat status;
  if (lstat(folder.c_str(), &status) != 0) return -1;
  if (given == nullptr && (!S_ISDIR(status.st_mode) || status.st_uid != geteuid())) {
    errno = EPERM;
    return -1;
  }
  std::string name = id;
  std::replace(name.begin(), name.end(), ':', '-');
  const int file = open((folder + "/" + name + ".lock").c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
  if (file < 0) return -1;
  if (flock(file, LOCK_EX | LOCK_NB) == 0) return file;
  const int reason = errno;
  close(file);
  errno = reason;
  return -1;
}

}  // namespace

DeviceHandle::DeviceHandle(Chip* chip_in) : chip(chip_in), unplug_count(CurrentFaults().unplug_count) {
  chip->AddHandle(this);
}
DeviceHandle::~DeviceHandle() { chip->RemoveHandle(this); }

Status DeviceHandle::Check(bool is_control) const {
  const Faults faults = CurrentFaults();
  if (faults.IsDead(unplug_count)) return kDriverOperationFailed;
  return is_control && faults.set.control_timeout ? ControlTimeout() : kSuccess;
}

const std::vector<Chip*>& Chip::All() {
  // Never destroyed, so that no thread of a device can outlive it.
  static const auto* const chips = [] {
    auto* const all = new std::vector<Chip*>;
    const size_t count = DeviceCount();
    for (size_t i = 0; i < count; i++) all->push_back(new Chip(i));
    return all;
  }();
  return *chips;
}

Chip* Chip::Find(const std::string& id) {
  for (Chip* chip : All()) {
    if (chip->id_ == id) return chip;
  }
  return nullptr;
}

void Chip::WakeAll() {
  for (Chip* chip : All()) {
    std::lock_guard<std::mutex> lock(chip->mutex_);
    for (Executor* executor : chip->executors_) executor->Wake();
    chip->changed_.notify_all();
  }
}

Architecture Chip::architecture() {
  static const bool is_8l = std::strcmp(EnvironmentOr("SOFTHAILORT_ARCH", "hailo8"), "hailo8l") == 0;
  return is_8l ? kHailo8L : kHailo8;
}

Chip::Chip(size_t index)
    : id_(Format("0000:%02x:00.0", static_cast<unsigned>(index + 1))),
      serial_number_(Format("SOFT%04u", static_cast<unsigned>(index + 1))),
      clock_mhz_(kFullClockMhz) {}

Status Chip::Claim() {
  const Faults faults = CurrentFaults();
  std::lock_guard<std::mutex> lock(mutex_);
  if (lock_file_ >= 0 && lock_unplug_count_ != faults.unplug_count) {
    close(lock_file_);
    lock_file_ = -1;
  }
  const int file = LockFile(id_);
  if (file < 0) {
    if (errno == EWOULDBLOCK) return kDeviceInUse;
    std::fprintf(stderr, "softhailort: cannot lock device %s: %s\n", id_.c_str(), std::strerror(errno));
    return kFileOperationFailure;
  }
  lock_file_ = file;
  lock_unplug_count_ = faults.unplug_count;
  return kSuccess;
}

void Chip::Unclaim(uint32_t unplug_count) {
  std::lock_guard<std::mutex> lock(mutex_);
  if (lock_file_ < 0 || lock_unplug_count_ != unplug_count) return;
  close(lock_file_);
  lock_file_ = -1;
}

void Chip::Attach(Executor* executor) {
  {
    std::lock_guard<std::mutex> lock(mutex_);
    executors_.push_back(executor);
  }
  AddUser();
}

void Chip::Detach(Executor* executor) {
  {
    std::lock_guard<std::mutex> lock(mutex_);
    executors_.erase(std::remove(executors_.begin(), executors_.end(), executor), executors_.end());
  }
  RemoveUser();
}

void Chip::AddHandle(DeviceHandle* handle) {
  {
    std::lock_guard<std::mutex> lock(mutex_);
    handles_.push_back(handle);
  }
  AddUser();
}

void Chip::RemoveHandle(DeviceHandle* handle) {
  {
    std::unique_lock<std::mutex> lock(mutex_);
    handles_.erase(std::remove(handles_.begin(), handles_.end(), handle), handles_.end());
    WaitForListener(handle, &lock);
  }
  RemoveUser();
}

void Chip::Listen(DeviceHandle* handle, int32_t notification_id, DeviceHandle::Listener listener) {
  std::unique_lock<std::mutex> lock(mutex_);
  handle->listeners[notification_id] = listener;
  WaitForListener(handle, &lock);
}

// After a listener was taken away it must not be running either, unless it took itself away.
void Chip::WaitForListener(DeviceHandle* handle, std::unique_lock<std::mutex>* lock) {
  if (calling_ == handle && watch_thread_.get_id() == std::this_thread::get_id()) return;
  changed_.wait(*lock, [&] { return calling_ != handle; });
}

void Chip::AddUser() {
  std::lock_guard<std::mutex> lock(users_mutex_);
  if (users_++ > 0) return;
  {
    std::lock_guard<std::mutex> state_lock(mutex_);
    is_stopping_ = false;
    runtime_errors_seen_ = CurrentFaults().runtime_error_count;
    watch_thread_ = std::thread([this] { Watch(); });
  }
}

void Chip::RemoveUser() {
  std::lock_guard<std::mutex> lock(users_mutex_);
  if (--users_ > 0) return;
  {
    std::lock_guard<std::mutex> state_lock(mutex_);
    is_stopping_ = true;
    changed_.notify_all();
  }
  watch_thread_.join();
}

void Chip::Watch() {
  pthread_setname_np(pthread_self(), "SOFT_FIRMWARE");
  uint64_t version = 0;
  std::unique_lock<std::mutex> lock(mutex_);
  while (!is_stopping_) {
    lock.unlock();
    const Faults faults = CurrentFaults();
    MindTemperature(faults);
    lock.lock();
    if (faults.version != version) {
      version = faults.version;
      for (Executor* executor : executors_) executor->Wake();
    }
    if (faults.runtime_error_count > runtime_errors_seen_) {
      const uint32_t details[2] = {};  // exit status and network group: the real ones mean something to Hailo only
      Report(kContextSwitchRunTimeError, details, sizeof details);
    }
    runtime_errors_seen_ = faults.runtime_error_count;
    // The driver forgets who held a device that is gone.
    if (lock_file_ >= 0 && faults.IsDead(lock_unplug_count_)) {
      close(lock_file_);
      lock_file_ = -1;
    }
    NotifyListeners(&lock);
    if (is_stopping_) break;
    changed_.wait_for(lock, kWatchPeriod);
  }
}

void Chip::NotifyListeners(std::unique_lock<std::mutex>* lock) {
  while (!reports_.empty() && !is_stopping_) {
    const Notification report = reports_.front();
    reports_.pop_front();
    const std::vector<DeviceHandle*> handles = handles_;
    for (DeviceHandle* handle : handles) {
      // The list may have changed while a listener ran.
      if (std::find(handles_.begin(), handles_.end(), handle) == handles_.end()) continue;
      const DeviceHandle::Listener listener = handle->listeners[report.id];
      if (listener.callback == nullptr || handle->Check(false) != kSuccess) continue;
      calling_ = handle;
      lock->unlock();
      listener.callback(static_cast<Device>(handle), &report, listener.opaque);
      lock->lock();
      calling_ = nullptr;
      changed_.notify_all();
    }
  }
}

void Chip::Report(int32_t id, const void* body, size_t bytes) {
  Notification report{};
  report.id = id;
  report.sequence = next_sequence_++;
  std::memcpy(report.body.bytes, body, bytes);
  reports_.push_back(report);
  changed_.notify_all();
}

float Chip::MeasureTemperature() {
  const Faults faults = CurrentFaults();
  MindTemperature(faults);
  return faults.set.temperature_celsius;
}

void Chip::MindTemperature(const Faults& faults) {
  if (faults.set.unplug) return;
  const float celsius = faults.set.temperature_celsius;
  std::lock_guard<std::mutex> lock(mutex_);
  const auto enter = [&](uint32_t zone) {
    zone_ = zone;
    const TemperatureAlarm alarm = {zone, 0, celsius, celsius};
    Report(kTemperatureAlarm, &alarm, sizeof alarm);
  };
  if (zone_ == kZoneGreen && celsius >= kOrangeCelsius) enter(kZoneOrange);
  if (zone_ == kZoneOrange && celsius >= kShutdownCelsius) {
    enter(kZoneRed);
    // Since 4.21 the two counts of closed streams ahead of the temperatures are gone.
    const struct {
      uint32_t closed_inputs, closed_outputs;
      float sensor0_celsius, sensor1_celsius;
    } shutdown = {0, 0, celsius, celsius};
    const size_t skip = IsSince(21) ? 8 : 0;
    Report(kDataflowShutdown, reinterpret_cast<const uint8_t*>(&shutdown) + skip, sizeof shutdown - skip);
    for (Executor* executor : executors_) executor->AbortAll();
  }
  if (zone_ == kZoneRed && celsius < kShutdownCelsius) enter(kZoneOrange);
  if (zone_ == kZoneOrange && celsius < kGreenCelsius) enter(kZoneGreen);

  const uint32_t clock = clock_mhz_;
  uint32_t next = clock;
  if (zone_ != kZoneGreen && clock > kSlowestClockMhz) next = clock - kClockStepMhz;
  if (zone_ == kZoneGreen && clock < kFullClockMhz) next = clock + kClockStepMhz;
  if (next == clock) return;
  clock_mhz_ = next;
  const ClockChange change = {clock * 1'000'000, next * 1'000'000};
  Report(kClockChanged, &change, sizeof change);
}

}  // namespace soft
