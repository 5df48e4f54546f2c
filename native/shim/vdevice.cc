#include "vdevice.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "teardown.h"

namespace shim {
namespace {

using Clock = std::chrono::steady_clock;
using hailo_abi::Status;

/// A control call takes 0.1 to 0.3 ms of the device's mailbox: never per window.
constexpr std::chrono::seconds kPollInterval{1};
/// For another thread that opens the device, or for a lost vdevice to be released.
constexpr std::chrono::seconds kAcquireTimeout{3};
/// The chip says orange at 104 °C and shuts its dataflow down at 120 °C. It is not asked to work again
/// before it is well below.
constexpr float kCoolEnoughCelsius = 94;
constexpr int32_t kNotifications[] = {
    hailo_abi::kTemperatureAlarm,
    hailo_abi::kDataflowShutdown,
    hailo_abi::kClockChanged,
    hailo_abi::kContextSwitchRunTimeError,
};

/// What there is of vdevices in this process. Never destroyed: a teardown may outlive static objects.
struct Owner {
  std::mutex mutex;
  std::condition_variable changed;
  std::weak_ptr<VDevice> current;
  /// Being opened, open, or not released yet: HailoRT gives a device to one at a time.
  bool is_held = false;
  uint64_t generations = 0;
  /// The last vdevice was shut down by the chip's heat.
  bool must_cool = false;
};

Owner& TheOwner() {
  static Owner& owner = *new Owner;
  return owner;
}

/// @throws Failure kNoDevice
void RequireDevice(const Library& library, const std::string& device_id) {
  const std::vector<std::string> found = library.ScanDevices();
  if (found.empty()) {
    throw Failure(Cause::kNoDevice,
                  "No Hailo device: `lspci -d 1e60:` should list one and /dev/hailo0 should be there. Is the driver "
                  "loaded (`lsmod | grep hailo_pci`), and is the device given to the container?");
  }
  if (device_id.empty() || std::find(found.begin(), found.end(), device_id) != found.end()) return;
  std::string names;
  for (const std::string& name : found) names += (names.empty() ? "" : ", ") + name;
  throw Failure(Cause::kNoDevice, "No Hailo device " + device_id + ": there is " + names);
}

float TemperatureOf(const Library& library, hailo_abi::Device device, Status* status) {
  hailo_abi::ChipTemperature temperature{};
  *status = library.call.get_chip_temperature(device, &temperature);
  if (*status != hailo_abi::kSuccess) return std::numeric_limits<float>::quiet_NaN();
  return std::max(temperature.sensor0_celsius, temperature.sensor1_celsius);
}

/// A device handle that claims nothing, for questions.
class Inquiry {
 public:
  Inquiry(const Library& library, const std::string& device_id) : library_(library) {
    hailo_abi::DeviceId id{};
    device_id.copy(id.id, sizeof id.id - 1);
    library.Check(library.call.create_device_by_id(device_id.empty() ? nullptr : &id, &device), "open the device");
  }
  ~Inquiry() { library_.call.release_device(device); }
  Inquiry(const Inquiry&) = delete;

  hailo_abi::Device device = nullptr;

 private:
  const Library& library_;
};

/// @throws Failure kDeviceHot
void RequireCool(const Library& library, const std::string& device_id) {
  const Inquiry inquiry(library, device_id.empty() ? library.ScanDevices().at(0) : device_id);
  Status status;
  const float celsius = TemperatureOf(library, inquiry.device, &status);
  library.Check(status, "read the chip's temperature");
  if (celsius < kCoolEnoughCelsius) return;
  throw Failure(Cause::kDeviceHot, "The chip shut down for heat and is at " + std::to_string(std::lround(celsius)) +
                                       " °C: it is used again below " +
                                       std::to_string(std::lround(kCoolEnoughCelsius)) + " °C. Look after its cooling");
}

}  // namespace

std::shared_ptr<VDevice> VDevice::Acquire(const Library& library, const VDeviceOptions& options) {
  Owner& owner = TheOwner();
  std::unique_lock<std::mutex> lock(owner.mutex);
  const Clock::time_point deadline = Clock::now() + kAcquireTimeout;
  while (owner.is_held) {
    if (const std::shared_ptr<VDevice> current = owner.current.lock(); current && !current->is_retired()) {
      if (current->options == options) return current;
      throw Failure(Cause::kDeviceInUse, "This process holds a device already, with other options");
    }
    if (owner.changed.wait_until(lock, deadline) == std::cv_status::timeout) {
      throw Failure(Cause::kDeviceLost,
                    "The device that was lost is not released yet. If this goes on, restart the process: the kernel "
                    "then releases it");
    }
  }
  owner.is_held = true;
  const uint64_t generation = owner.generations + 1;
  const bool must_cool = owner.must_cool;
  lock.unlock();

  VDevice* opened = nullptr;
  try {
    RequireDevice(library, options.device_id);
    if (must_cool) {
      RequireCool(library, options.device_id);
      lock.lock();
      owner.must_cool = false;
      lock.unlock();
    }
    opened = new VDevice(library, options, generation);
  } catch (...) {
    lock.lock();
    owner.is_held = false;
    owner.changed.notify_all();
    throw;
  }
  // Whoever drops the last reference does not wait for the release.
  std::shared_ptr<VDevice> vdevice(opened, [](VDevice* last) { TearDown([last] { delete last; }); });
  lock.lock();
  owner.generations = generation;
  owner.current = vdevice;
  owner.changed.notify_all();
  return vdevice;
}

VDevice::VDevice(const Library& library, const VDeviceOptions& options, uint64_t generation)
    : library(library),
      options(options),
      generation(generation),
      // A name of its own for each generation: by the same name HailoRT would give us the lost one again.
      group_id_("hailo-inference-" + std::to_string(generation)),
      temperature_celsius_(std::numeric_limits<float>::quiet_NaN()) {
  vdevice_ = CreateHandle();
  try {
    size_t count = 1;
    library.Check(library.call.get_physical_devices(vdevice_, &device_, &count), "get the vdevice's device");
    description_ = library.Describe(device_);
    clock_hz_ = description_.clock_hz;
    for (const int32_t id : kNotifications) {
      library.Check(library.call.set_notification_callback(device_, OnNotification, id, this),
                    "ask for the device's notifications");
    }
    PollTemperature();
  } catch (...) {
    library.call.release_vdevice(vdevice_);
    throw;
  }
  monitor_ = std::thread([this] { Monitor(); });
}

VDevice::~VDevice() {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    is_stopping_ = true;
    stopping_changed_.notify_all();
  }
  monitor_.join();
  for (const int32_t id : kNotifications) library.call.remove_notification_callback(device_, id);
  library.call.release_vdevice(vdevice_);
  kept_.clear();
  Owner& owner = TheOwner();
  const std::lock_guard<std::mutex> lock(owner.mutex);
  owner.is_held = false;
  owner.changed.notify_all();
}

hailo_abi::VDevice VDevice::CreateHandle() const {
  hailo_abi::VDeviceParams params{};
  library.Check(library.call.init_vdevice_params(&params), "prepare a vdevice");
  hailo_abi::DeviceId id{};
  if (!options.device_id.empty()) {
    options.device_id.copy(id.id, sizeof id.id - 1);
    params.device_ids = &id;
  }
  params.device_count = 1;
  params.scheduling_algorithm = options.is_single_model ? hailo_abi::kSchedulerNone : hailo_abi::kSchedulerRoundRobin;
  params.group_id = group_id_.c_str();
  hailo_abi::VDevice handle = nullptr;
  const Status status = library.call.create_vdevice(&params, &handle);
  // Without an id HailoRT passes over a busy device; that there is one was seen before.
  if (status == hailo_abi::kOutOfPhysicalDevices || status == hailo_abi::kDeviceInUse) {
    throw Failure(Cause::kDeviceInUse, "The device is held by another process (" + library.Describe(status) +
                                           "): `lsof /dev/hailo*` tells by which");
  }
  library.Check(status, "open the device");
  return handle;
}

void VDevice::ReleaseHandle(hailo_abi::VDevice handle) const { library.call.release_vdevice(handle); }

void VDevice::Retire(Cause cause, const std::string& reason) {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (is_retired()) return;
    retirement_cause_ = cause;
    retirement_reason_ = reason;
    is_retired_.store(true, std::memory_order_release);
  }
  if (cause != Cause::kDeviceHot) return;
  Owner& owner = TheOwner();
  const std::lock_guard<std::mutex> lock(owner.mutex);
  owner.must_cool = true;
}

std::string VDevice::retirement_reason() const {
  const std::lock_guard<std::mutex> lock(mutex_);
  return retirement_reason_;
}

void VDevice::KeepUntilReleased(std::shared_ptr<void> memory) {
  const std::lock_guard<std::mutex> lock(mutex_);
  kept_.push_back(std::move(memory));
}

void VDevice::StreamFailed(Cause cause, const std::string& reason, int failure_count_at_opening) {
  if (cause == Cause::kDeviceLost) return Retire(cause, reason);
  if (!failure_count_.compare_exchange_strong(failure_count_at_opening, failure_count_at_opening + 1)) return;
  if (++failures_in_a_row_ >= 2) Retire(cause, reason);
}

void VDevice::WindowStarted() {
  const std::lock_guard<std::mutex> lock(busy_mutex_);
  if (windows_on_device_++ == 0) busy_since_ = Clock::now();
}

void VDevice::WindowsEnded(size_t count) {
  const std::lock_guard<std::mutex> lock(busy_mutex_);
  windows_on_device_ -= count;
  if (count > 0 && windows_on_device_ == 0) busy_ += Clock::now() - busy_since_;
}

DeviceState VDevice::State() const {
  const uint32_t clock_hz = clock_hz_;
  return {
      temperature_celsius_, clock_hz, clock_hz < description_.clock_hz, utilisation_percent_, generation,
  };
}

/// Called on a thread of the library's, which must not be kept.
void VDevice::OnNotification(hailo_abi::Device, const hailo_abi::Notification* notification, void* self) {
  VDevice& vdevice = *static_cast<VDevice*>(self);
  switch (notification->id) {
    case hailo_abi::kTemperatureAlarm: {
      const hailo_abi::TemperatureAlarm& alarm = notification->body.temperature_alarm;
      vdevice.temperature_celsius_ = std::max(alarm.sensor0_celsius, alarm.sensor1_celsius);
      break;
    }
    case hailo_abi::kClockChanged:
      vdevice.clock_hz_ = notification->body.clock_change.current_hz;
      break;
    case hailo_abi::kDataflowShutdown:
      vdevice.Retire(Cause::kDeviceHot, "The chip has shut its dataflow down for heat");
      break;
    case hailo_abi::kContextSwitchRunTimeError:
      vdevice.Retire(Cause::kDeviceLost, "The firmware reports a run-time error");
      break;
  }
}

void VDevice::Monitor() {
  Clock::time_point polled = Clock::now();
  std::unique_lock<std::mutex> lock(mutex_);
  while (!stopping_changed_.wait_for(lock, kPollInterval, [this] { return is_stopping_; })) {
    lock.unlock();
    const Clock::time_point now = Clock::now();
    PollUtilisation(now - polled);
    polled = now;
    if (!is_retired()) PollTemperature();
    lock.lock();
  }
}

void VDevice::PollTemperature() {
  Status status;
  float celsius = TemperatureOf(library, device_, &status);
  // A control call may time out once; a device that does so twice does not answer any more.
  if (CauseOf(status) == Cause::kTimeout) celsius = TemperatureOf(library, device_, &status);
  temperature_celsius_ = celsius;
  const Cause cause = CauseOf(status);
  if (status != hailo_abi::kSuccess && (cause == Cause::kTimeout || cause == Cause::kDeviceLost)) {
    Retire(cause, "The device does not tell its temperature: " + library.Describe(status));
  }
}

void VDevice::PollUtilisation(std::chrono::nanoseconds elapsed) {
  const std::lock_guard<std::mutex> lock(busy_mutex_);
  if (windows_on_device_ > 0) {
    const Clock::time_point now = Clock::now();
    busy_ += now - busy_since_;
    busy_since_ = now;
  }
  utilisation_percent_ = std::min(100.0f, 100.0f * static_cast<float>(busy_.count()) / elapsed.count());
  busy_ = std::chrono::nanoseconds{0};
}

std::vector<DeviceDescription> DescribeDevices(const Library& library) {
  std::vector<DeviceDescription> devices;
  for (const std::string& id : library.ScanDevices()) {
    const Inquiry inquiry(library, id);
    devices.push_back(library.Describe(inquiry.device));
  }
  return devices;
}

}  // namespace shim
