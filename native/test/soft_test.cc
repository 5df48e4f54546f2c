// Tests of the software HailoRT, from outside, through the exports alone.
//
//   soft_test LIBRARY HEF            runs every case, each in a process of its own
//   soft_test LIBRARY HEF CASE       runs one case in this process
//   soft_test --list                 prints the names
//
// HEF is a network for the software device, "-" for none: the cases bring a small one of their own.

#include <dlfcn.h>
#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <functional>
#include <iterator>
#include <memory>
#include <mutex>
#include <thread>

#include "../abi.h"
#include "soft_toy.h"

using namespace hailo_abi;
using namespace std::chrono_literals;

namespace {

#define CHECK(condition)                              \
  do {                                                \
    if (!(condition)) Fail(__LINE__, #condition, ""); \
  } while (false)
#define CHECK_EQUAL(actual, expected)                                                                    \
  do {                                                                                                   \
    const auto actual_value = (actual);                                                                  \
    if (!(actual_value == (expected))) Fail(__LINE__, #actual " == " #expected, Describe(actual_value)); \
  } while (false)

std::string case_name;

[[noreturn]] void Fail(int line, const char* condition, const std::string& actual) {
  std::printf("FAIL %s soft_test.cc:%d %s%s\n", case_name.c_str(), line, condition, actual.c_str());
  std::fflush(stdout);
  std::_Exit(1);
}

template <typename T>
std::string Describe(const T& value) {
  if constexpr (std::is_convertible_v<T, double>) return " but is " + std::to_string(static_cast<double>(value));
  if constexpr (std::is_convertible_v<T, std::string>) return " but is " + std::string(value);
  return "";
}

struct Api {
#define SOFT_POINTER(name, result, parameters) result(*name) parameters;
  HAILORT_FUNCTIONS(SOFT_POINTER)
#undef SOFT_POINTER
  int32_t (*control)(const char* faults);
  uint64_t (*frames)();

  explicit Api(const char* path) {
    void* const library = dlopen(path, RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
    if (library == nullptr) Fail(__LINE__, "dlopen", std::string(" ") + dlerror());
#define SOFT_LOAD(name, result, parameters) Load(library, "hailo_" #name, &name);
    HAILORT_FUNCTIONS(SOFT_LOAD)
#undef SOFT_LOAD
    Load(library, "softhailort_control", &control);
    Load(library, "softhailort_frames", &frames);
  }

  template <typename Function>
  void Load(void* library, const char* symbol, Function** function) {
    *function = reinterpret_cast<Function*>(dlsym(library, symbol));
    if (*function == nullptr) Fail(__LINE__, "dlsym", std::string(" ") + symbol);
  }
};

std::string library_path, hef_path;
std::unique_ptr<Api> loaded;
const Api& api() {
  if (loaded == nullptr) loaded = std::make_unique<Api>(library_path.c_str());
  return *loaded;
}

const toy::Network& ToyNetwork() {
  static const toy::Network network(7);
  return network;
}

std::string ToyHef(toy::HefOptions options = {}) {
  if (options.mapping.empty()) options.mapping = ToyNetwork().Payload();
  return toy::Container(toy::Proto(options));
}

Hef LoadHef(const std::string& bytes) {
  Hef hef = nullptr;
  CHECK_EQUAL(api().create_hef_buffer(&hef, bytes.data(), bytes.size()), kSuccess);
  return hef;
}

Status StatusOfHef(const std::string& bytes) {
  Hef hef = nullptr;
  const Status status = api().create_hef_buffer(&hef, bytes.data(), bytes.size());
  if (status == kSuccess) api().release_hef(hef);
  return status;
}

VDeviceParams DefaultParams() {
  VDeviceParams params;
  CHECK_EQUAL(api().init_vdevice_params(&params), kSuccess);
  return params;
}

Status StatusOfVDevice(const VDeviceParams& params) {
  VDevice vdevice = nullptr;
  const Status status = api().create_vdevice(&params, &vdevice);
  if (status == kSuccess) CHECK_EQUAL(api().release_vdevice(vdevice), kSuccess);
  return status;
}

VDevice OpenVDevice(const char* group_id = kUniqueGroup, int32_t scheduler = kSchedulerRoundRobin) {
  VDeviceParams params = DefaultParams();
  params.group_id = group_id;
  params.scheduling_algorithm = scheduler;
  VDevice vdevice = nullptr;
  CHECK_EQUAL(api().create_vdevice(&params, &vdevice), kSuccess);
  return vdevice;
}

Status Configure(VDevice vdevice, const std::string& bytes, NetworkGroup* group, uint16_t batch_size = 0,
                 bool is_async = true) {
  Hef hef = LoadHef(bytes);
  auto params = std::make_unique<ConfigureParams>();
  CHECK_EQUAL(api().init_configure_params_by_vdevice(hef, vdevice, params.get()), kSuccess);
  params->groups[0].batch_size = batch_size;
  for (size_t i = 0; is_async && i < params->groups[0].stream_count; i++) {
    params->groups[0].streams[i].stream_params.flags = kStreamFlagsAsync;
  }
  size_t count = 1;
  const Status status = api().configure_vdevice(vdevice, hef, params.get(), group, &count);
  CHECK_EQUAL(api().release_hef(hef), kSuccess);
  return status;
}

/// A configured toy network and its streams. Frames are numbered; results are checked against the plain arithmetic.
struct Toy {
  struct Slot {
    alignas(64) std::array<uint8_t, toy::kInputBytes> input;
    alignas(64) std::array<uint8_t, toy::kLatentBytes> latent;
    alignas(64) std::array<uint8_t, toy::kScoreBytes> scores;
    Toy* toy;
    uint64_t frame;
    uint32_t callbacks = 0;
    Status status = kSuccess;
  };

  explicit Toy(VDevice vdevice, const std::string& hef = ToyHef(), uint16_t batch_size = 0) {
    CHECK_EQUAL(Configure(vdevice, hef, &group, batch_size), kSuccess);
    FindStreams();
  }

  void FindStreams() {
    CHECK_EQUAL(api().get_input_stream(group, "toy/input", &input), kSuccess);
    CHECK_EQUAL(api().get_output_stream(group, "toy/latent", &latent), kSuccess);
    CHECK_EQUAL(api().get_output_stream(group, "toy/scores", &scores), kSuccess);
    CHECK_EQUAL(api().input_stream_get_async_max_queue_size(input, &depth), kSuccess);
    for (size_t i = 0; i < depth; i++) {
      slots.push_back(std::make_unique<Slot>());
      slots.back()->toy = this;
    }
  }

  /// @returns what the write gave; the reads must be taken
  Status Submit() {
    Slot& slot = *slots[submitted % depth];
    slot.frame = submitted;
    slot.callbacks = 0;
    slot.input = toy::Frame(submitted);
    slot.latent.fill(0xEE);
    slot.scores.fill(0xEE);
    Status status = api().stream_read_raw_buffer_async(latent, slot.latent.data(), slot.latent.size(), OnDone, &slot);
    if (status != kSuccess) return status;
    status = api().stream_read_raw_buffer_async(scores, slot.scores.data(), slot.scores.size(), OnDone, &slot);
    if (status != kSuccess) return status;
    status = api().stream_write_raw_buffer_async(input, slot.input.data(), slot.input.size(), OnDone, &slot);
    if (status == kSuccess) submitted++;
    return status;
  }

  static void OnDone(const CompletionInfo* info) {
    auto* const slot = static_cast<Slot*>(info->opaque);
    Toy& toy = *slot->toy;
    std::lock_guard<std::mutex> lock(toy.mutex);
    toy.threads.insert(toy.threads.end(), std::this_thread::get_id());
    if (toy.threads.size() > 1 && toy.threads.back() == toy.threads.front()) toy.threads.pop_back();
    slot->status = info->status;
    if (++slot->callbacks < 3) return;
    toy.last_status = info->status;
    if (slot->frame != toy.completed) toy.is_in_order = false;
    if (info->status == kSuccess) {
      const auto expected = ToyNetwork().Run(toy::Frame(slot->frame).data());
      if (slot->latent != expected.latent || slot->scores != expected.scores) toy.wrong_results++;
    }
    toy.completed++;
    if (toy.on_frame) toy.on_frame();
  }

  uint64_t Completed() {
    std::lock_guard<std::mutex> lock(mutex);
    return completed;
  }

  bool WaitFor(uint64_t frames, std::chrono::milliseconds timeout = 30s) {
    const auto deadline = std::chrono::steady_clock::now() + timeout;
    while (Completed() < frames) {
      if (std::chrono::steady_clock::now() > deadline) return false;
      std::this_thread::sleep_for(200us);
    }
    return true;
  }

  void Run(uint64_t frames) {
    for (uint64_t i = 0; i < frames; i++) {
      while (submitted - Completed() == depth) std::this_thread::sleep_for(20us);
      CHECK_EQUAL(Submit(), kSuccess);
    }
    CHECK(WaitFor(submitted));
    CheckResults();
  }

  void CheckResults() {
    std::lock_guard<std::mutex> lock(mutex);
    CHECK_EQUAL(wrong_results, 0U);
    CHECK(is_in_order);
    CHECK(threads.size() <= 1);
    CHECK_EQUAL(last_status, kSuccess);
  }

  NetworkGroup group = nullptr;
  InputStream input = nullptr;
  OutputStream latent = nullptr, scores = nullptr;
  size_t depth = 0;
  std::vector<std::unique_ptr<Slot>> slots;
  uint64_t submitted = 0;  // by whoever submits: one thread at a time

  std::mutex mutex;
  uint64_t completed = 0;
  uint32_t wrong_results = 0;
  bool is_in_order = true;
  Status last_status = kSuccess;
  std::vector<std::thread::id> threads;
  std::function<void()> on_frame;
};

void SetFaults(const char* faults) { CHECK_EQUAL(api().control(faults), 0); }

bool Eventually(const std::function<bool()>& condition, std::chrono::milliseconds timeout = 30s) {
  const auto deadline = std::chrono::steady_clock::now() + timeout;
  while (!condition()) {
    if (std::chrono::steady_clock::now() > deadline) return false;
    std::this_thread::sleep_for(1ms);
  }
  return true;
}

double Milliseconds(std::chrono::steady_clock::duration duration) {
  return std::chrono::duration<double, std::milli>(duration).count();
}

/// Runs `child` in a forked process and returns its exit code.
int InOtherProcess(const std::function<int()>& child) {
  const pid_t pid = fork();
  if (pid == 0) std::_Exit(child());
  int status = 0;
  waitpid(pid, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

// The library

void TellsItsVersion() {
  Version version{};
  CHECK_EQUAL(api().get_library_version(&version), kSuccess);
  CHECK(version.major == 4 && version.minor == 23 && version.revision == 0);
  CHECK_EQUAL(api().get_library_version(nullptr), kInvalidArgument);
  CHECK_EQUAL(std::string(api().get_status_message(0)), "HAILO_SUCCESS");
  CHECK_EQUAL(std::string(api().get_status_message(64)), "HAILO_DRIVER_NOT_INSTALLED");
  CHECK_EQUAL(std::string(api().get_status_message(82)), "HAILO_QUEUE_IS_FULL");
  CHECK_EQUAL(std::string(api().get_status_message(93)), "HAILO_HEF_NOT_COMPATIBLE_WITH_DEVICE");
  CHECK(api().get_status_message(94) == nullptr);
  CHECK(api().get_status_message(200) == nullptr);
  CHECK(api().get_status_message(-1) == nullptr);
}

void TellsItsVersion418() {
  Version version{};
  CHECK_EQUAL(api().get_library_version(&version), kSuccess);
  CHECK(version.major == 4 && version.minor == 18 && version.revision == 0);
  CHECK_EQUAL(std::string(api().get_status_message(64)), "HAILO_PCIE_DRIVER_NOT_INSTALLED");
  CHECK_EQUAL(std::string(api().get_status_message(84)), "HAILO_CANT_MEET_BUFFER_REQUIREMENTS");
  CHECK(api().get_status_message(85) == nullptr);
}

void LeavesALogFile() {
  unsetenv("HAILORT_LOGGER_PATH");
  CHECK(access("hailort.log", F_OK) != 0);
  api();
  CHECK(access("hailort.log", F_OK) == 0);
}

void LeavesNoLogFileWhenTold() {
  api();
  CHECK(access("hailort.log", F_OK) != 0);
}

// No devices: every status as observed of the real libraries

struct NoDeviceStatuses {
  Status scan, any, by_id, garbage_id, create_device;
};

void CheckNoDevices(const NoDeviceStatuses& expected) {
  DeviceId ids[8];
  size_t count = 8;
  CHECK_EQUAL(api().scan_devices(nullptr, ids, &count), expected.scan);
  CHECK_EQUAL(count, expected.scan == kSuccess ? 0U : 8U);
  VDeviceParams params = DefaultParams();
  CHECK(params.device_count == 1 && params.device_ids == nullptr &&
        params.scheduling_algorithm == kSchedulerRoundRobin);
  CHECK_EQUAL(std::string(params.group_id), kUniqueGroup);
  CHECK_EQUAL(StatusOfVDevice(params), expected.any);
  VDevice vdevice;
  CHECK_EQUAL(api().create_vdevice(nullptr, &vdevice), expected.any);
  CHECK_EQUAL(api().create_vdevice(nullptr, nullptr), kInvalidArgument);
  params.group_id = "SHARED";
  CHECK_EQUAL(StatusOfVDevice(params), expected.any);
  params = DefaultParams();
  params.multi_process_service = true;
  CHECK_EQUAL(StatusOfVDevice(params), kInvalidOperation);
  params = DefaultParams();
  params.device_count = 0;
  CHECK_EQUAL(StatusOfVDevice(params), kInvalidArgument);
  DeviceId id = {"0000:01:00.0"};
  params = DefaultParams();
  params.device_ids = &id;
  CHECK_EQUAL(StatusOfVDevice(params), expected.by_id);
  id = {"nonsense"};
  CHECK_EQUAL(StatusOfVDevice(params), expected.garbage_id);
  Device device;
  CHECK_EQUAL(api().create_device_by_id(nullptr, &device), expected.create_device);
}

void AnswersWithoutDevices() {
  CheckNoDevices({kSuccess, kOutOfPhysicalDevices, kInvalidArgument, kInvalidArgument, kInvalidOperation});
}
void AnswersWithoutDevices418() {
  CheckNoDevices(
      {kDriverNotInstalled, kDriverNotInstalled, kDriverNotInstalled, kInvalidArgument, kDriverNotInstalled});
}

// Devices

void DescribesItsDevices() {
  DeviceId ids[4];
  size_t count = 1;
  CHECK_EQUAL(api().scan_devices(nullptr, ids, &count), kInsufficientBuffer);
  CHECK_EQUAL(count, 2U);
  count = 4;
  CHECK_EQUAL(api().scan_devices(nullptr, ids, &count), kSuccess);
  CHECK_EQUAL(count, 2U);
  CHECK_EQUAL(std::string(ids[0].id), "0000:01:00.0");
  CHECK_EQUAL(std::string(ids[1].id), "0000:02:00.0");
  Device device;
  CHECK_EQUAL(api().create_device_by_id(nullptr, &device), kInvalidOperation);
  CHECK_EQUAL(api().create_device_by_id(&ids[1], &device), kSuccess);
  DeviceIdentity identity;
  CHECK_EQUAL(api().identify(device, &identity), kSuccess);
  CHECK_EQUAL(std::string(identity.board_name), "Hailo-8 (software)");
  CHECK_EQUAL(std::string(identity.product_name), "software HailoRT");
  CHECK_EQUAL(std::string(identity.serial_number), "SOFT0002");
  CHECK_EQUAL(identity.serial_number_length, 8);
  CHECK_EQUAL(identity.architecture, kHailo8);
  CHECK_EQUAL(identity.firmware_version.minor, 23U);
  ChipTemperature temperature;
  CHECK_EQUAL(api().get_chip_temperature(device, &temperature), kSuccess);
  CHECK_EQUAL(temperature.sensor0_celsius, 48.5F);
  bool is_protected = false;
  CHECK_EQUAL(api().get_throttling_state(device, &is_protected), kSuccess);
  CHECK(is_protected);
  DeviceId id;
  CHECK_EQUAL(api().get_device_id(device, &id), kSuccess);
  CHECK_EQUAL(std::string(id.id), "0000:02:00.0");
  CHECK_EQUAL(api().release_device(device), kSuccess);
}

void CheckExtendedInformation(size_t bytes) {
  Device device;
  CHECK_EQUAL(api().create_device_by_id(nullptr, &device), kSuccess);
  uint8_t information[128];
  std::memset(information, 0xAB, sizeof information);
  CHECK_EQUAL(api().get_extended_device_information(device, reinterpret_cast<ExtendedDeviceInformation*>(information)),
              kSuccess);
  for (size_t i = bytes; i < sizeof information; i++) CHECK_EQUAL(information[i], 0xAB);
  CHECK_EQUAL(information[bytes - 1], 0);
  uint32_t clock_hz;
  std::memcpy(&clock_hz, information, 4);
  CHECK_EQUAL(clock_hz, 400'000'000U);
  CHECK_EQUAL(api().release_device(device), kSuccess);
}

void FillsExtendedInformation() { CheckExtendedInformation(96); }
void FillsExtendedInformation420() { CheckExtendedInformation(92); }

void GivesADeviceToOneVDevice() {
  VDevice vdevice = OpenVDevice();
  CHECK_EQUAL(StatusOfVDevice(DefaultParams()), kOutOfPhysicalDevices);
  VDeviceParams params = DefaultParams();
  DeviceId id = {"0000:01:00.0"};
  params.device_ids = &id;
  CHECK_EQUAL(StatusOfVDevice(params), kDeviceInUse);
  Device device;
  CHECK_EQUAL(api().create_device_by_id(&id, &device), kSuccess);  // looking does not claim
  CHECK_EQUAL(api().release_device(device), kSuccess);

  Device devices[2];
  size_t count = 2;
  CHECK_EQUAL(api().get_physical_devices(vdevice, devices, &count), kSuccess);
  CHECK_EQUAL(count, 1U);
  DeviceId ids[2];
  CHECK_EQUAL(api().vdevice_get_physical_devices_ids(vdevice, ids, &count), kSuccess);
  CHECK_EQUAL(std::string(ids[0].id), "0000:01:00.0");
  CHECK_EQUAL(api().release_vdevice(vdevice), kSuccess);
  CHECK_EQUAL(StatusOfVDevice(DefaultParams()), kSuccess);
  CHECK_EQUAL(StatusOfVDevice(params), kSuccess);
}

void SpreadsOverDevices() {
  VDevice first = OpenVDevice(), second = OpenVDevice();
  CHECK_EQUAL(StatusOfVDevice(DefaultParams()), kOutOfPhysicalDevices);
  CHECK_EQUAL(api().release_vdevice(first), kSuccess);
  CHECK_EQUAL(api().release_vdevice(second), kSuccess);
  VDeviceParams params = DefaultParams();
  params.device_count = 3;
  CHECK_EQUAL(StatusOfVDevice(params), kOutOfPhysicalDevices);
  params.device_count = 2;
  VDevice both;
  CHECK_EQUAL(api().create_vdevice(&params, &both), kSuccess);
  Toy one(both), other(both);
  one.Run(20);
  other.Run(20);
  CHECK_EQUAL(api().release_vdevice(both), kSuccess);
}

// Forks before the library has threads.
void KeepsADeviceFromOtherProcesses() {
  int ready[2], go[2];
  CHECK(pipe(ready) == 0 && pipe(go) == 0);
  const pid_t pid = fork();
  if (pid == 0) {
    OpenVDevice();
    char byte = 1;
    (void)!write(ready[1], &byte, 1);
    (void)!read(go[0], &byte, 1);
    std::_Exit(0);  // dies without releasing
  }
  char byte;
  CHECK_EQUAL(read(ready[0], &byte, 1), 1);
  CHECK_EQUAL(StatusOfVDevice(DefaultParams()), kOutOfPhysicalDevices);
  CHECK_EQUAL(write(go[1], &byte, 1), 1);
  waitpid(pid, nullptr, 0);
  CHECK_EQUAL(StatusOfVDevice(DefaultParams()), kSuccess);
}

void SharesAVDeviceByGroupId() {
  VDevice first = OpenVDevice("SHARED"), second = OpenVDevice("SHARED");
  CHECK(first != second);
  CHECK_EQUAL(StatusOfVDevice(DefaultParams()), kOutOfPhysicalDevices);
  VDeviceParams params = DefaultParams();
  params.group_id = "OTHER";
  CHECK_EQUAL(StatusOfVDevice(params), kOutOfPhysicalDevices);
  params.group_id = "SHARED";
  params.device_count = 2;
  CHECK_EQUAL(StatusOfVDevice(params), kInvalidOperation);
  Toy toy(second);
  CHECK_EQUAL(api().release_vdevice(first), kSuccess);
  toy.Run(10);  // the device lives as long as its last handle
  CHECK_EQUAL(api().release_vdevice(second), kSuccess);

  VDevice without = OpenVDevice(nullptr), empty = OpenVDevice("");
  CHECK_EQUAL(api().release_vdevice(without), kSuccess);
  CHECK_EQUAL(api().release_vdevice(empty), kSuccess);
  CHECK_EQUAL(StatusOfVDevice(DefaultParams()), kSuccess);
}

void CountsDmaMappings() {
  VDevice vdevice = OpenVDevice();
  alignas(64) uint8_t buffer[64];
  CHECK_EQUAL(api().vdevice_dma_map_buffer(vdevice, buffer, 64, kHostToDevice), kSuccess);
  CHECK_EQUAL(api().vdevice_dma_map_buffer(vdevice, buffer, 64, kHostToDevice), kSuccess);
  CHECK_EQUAL(api().vdevice_dma_unmap_buffer(vdevice, buffer, 64, kDeviceToHost), kNotFound);
  CHECK_EQUAL(api().vdevice_dma_unmap_buffer(vdevice, buffer, 64, kHostToDevice), kSuccess);
  CHECK_EQUAL(api().vdevice_dma_unmap_buffer(vdevice, buffer, 64, kHostToDevice), kSuccess);
  CHECK_EQUAL(api().vdevice_dma_unmap_buffer(vdevice, buffer, 64, kHostToDevice), kNotFound);
  CHECK_EQUAL(api().vdevice_dma_map_buffer(vdevice, nullptr, 64, kHostToDevice), kInvalidArgument);
  CHECK_EQUAL(api().vdevice_dma_map_buffer(vdevice, buffer, 64, 7), kInvalidArgument);
  CHECK_EQUAL(api().release_vdevice(vdevice), kSuccess);
}

// HEF files

/// A header of the toy's body with another version, its other bytes zeros: no checksum of it is right.
std::string WithVersion(uint32_t version) {
  return toy::BigEndian(0x01484546, 4) + toy::BigEndian(version, 4) + std::string(100, '\x05');
}

void CheckHefStatuses(Status corrupted, Status not_supported, Status version_unknown, Status version2,
                      Status version3) {
  Hef hef = nullptr;
  CHECK_EQUAL(api().create_hef_file(&hef, "no-such.hef"), kOpenFileFailure);
  CHECK_EQUAL(api().create_hef_file(nullptr, "no-such.hef"), kInvalidArgument);
  CHECK_EQUAL(api().create_hef_buffer(&hef, "", 0), corrupted);
  CHECK_EQUAL(StatusOfHef(std::string(4, '\0')), corrupted);
  CHECK_EQUAL(StatusOfHef(std::string(12, '\0')), corrupted);
  CHECK_EQUAL(StatusOfHef(std::string(4096, '\0')), not_supported);
  CHECK_EQUAL(StatusOfHef(std::string(64, '\x5a')), not_supported);
  CHECK_EQUAL(StatusOfHef(WithVersion(7)), version_unknown);
  CHECK_EQUAL(StatusOfHef(WithVersion(0)), corrupted);
  CHECK_EQUAL(StatusOfHef(WithVersion(2)), version2);
  CHECK_EQUAL(StatusOfHef(WithVersion(3)), version3);
  std::string flipped = ToyHef();
  flipped[flipped.size() / 2] ^= 1;
  CHECK_EQUAL(StatusOfHef(flipped), corrupted);
  CHECK_EQUAL(StatusOfHef(ToyHef().substr(0, 500)), corrupted);
  CHECK_EQUAL(StatusOfHef(ToyHef()), kSuccess);
  toy::HefOptions options;
  options.extensions = {0, 3, 12};
  CHECK_EQUAL(StatusOfHef(ToyHef(options)), not_supported);
  options.extensions = {26, 33};
  CHECK_EQUAL(StatusOfHef(ToyHef(options)), not_supported);
  options.extensions = {26, 8};
  CHECK_EQUAL(StatusOfHef(ToyHef(options)), not_supported);
}

void RefusesBrokenHefs() {
  CheckHefStatuses(kHefFileCorrupted, kHefNotSupported, kHefNotSupported, kHefFileCorrupted, kHefFileCorrupted);
}
void RefusesBrokenHefs420() {
  CheckHefStatuses(kInvalidHef, kInvalidHef, kInternalFailure, kInvalidHef, kInternalFailure);
}
void RefusesBrokenHefs418() {
  CheckHefStatuses(kInvalidHef, kInvalidHef, kInternalFailure, kInternalFailure, kInternalFailure);
}

template <typename StreamInfoRow, typename VStreamInfoRow>
void CheckInfos() {
  Hef hef = LoadHef(ToyHef());
  NetworkGroupInfo group_info;
  size_t count = 1;
  CHECK_EQUAL(api().get_network_groups_infos(hef, &group_info, &count), kSuccess);
  CHECK_EQUAL(std::string(group_info.name), "toy");
  CHECK(!group_info.is_multi_context);
  double fps = 0;
  CHECK_EQUAL(api().hef_get_bottleneck_fps(hef, nullptr, &fps), kSuccess);
  CHECK_EQUAL(fps, 20000.0);
  CHECK_EQUAL(api().hef_get_bottleneck_fps(hef, "other", &fps), kNotFound);

  VStreamInfoRow vstreams[3];
  count = 2;
  CHECK_EQUAL(api().hef_get_all_vstream_infos(hef, nullptr, vstreams, &count), kInsufficientBuffer);
  CHECK_EQUAL(count, 3U);
  CHECK_EQUAL(api().hef_get_all_vstream_infos(hef, "toy", vstreams, &count), kSuccess);
  CHECK_EQUAL(std::string(vstreams[0].name), "toy/input");
  CHECK_EQUAL(std::string(vstreams[0].network_name), "toy/toy");
  CHECK(vstreams[0].direction == kHostToDevice && vstreams[2].direction == kDeviceToHost);
  CHECK(vstreams[0].format.type == kTypeUint8 && vstreams[0].format.order == kOrderNhwc &&
        vstreams[1].format.order == kOrderNc);
  CHECK(vstreams[0].shape.height == 1 && vstreams[0].shape.width == 20 && vstreams[0].shape.features == 5);
  CHECK_EQUAL(vstreams[0].quant_info.scale, 0.0625F);
  CHECK_EQUAL(vstreams[1].quant_info.zero_point, 117.0F);
  CHECK_EQUAL(vstreams[0].quant_info.limit_min, -8.0F);

  StreamInfoRow streams[3];
  CHECK_EQUAL(api().hef_get_all_stream_infos(hef, nullptr, streams, 2, &count), kInsufficientBuffer);
  CHECK_EQUAL(api().hef_get_all_stream_infos(hef, nullptr, streams, 3, &count), kSuccess);
  CHECK_EQUAL(count, 3U);
  CHECK_EQUAL(std::string(streams[2].name), "toy/scores");
  CHECK(streams[0].hardware_shape.width == 24 && streams[0].hardware_frame_bytes == 120 &&
        streams[0].hardware_data_bytes == 1);
  CHECK_EQUAL(streams[0].format.order, kOrderNhcw);
  CHECK(streams[1].shape.features == 19 && streams[1].hardware_shape.features == 24 &&
        streams[1].hardware_frame_bytes == 24);
  CHECK(streams[2].index == 2 && !streams[2].is_mux);
  CHECK_EQUAL(streams[2].quant_info.scale, 0.05F);
  CHECK_EQUAL(api().release_hef(hef), kSuccess);

  VDevice vdevice = OpenVDevice();
  Toy toy(vdevice);
  StreamInfoRow row[2];
  std::memset(row, 0xAB, sizeof row);
  CHECK_EQUAL(api().get_output_stream_info(toy.scores, row), kSuccess);
  CHECK_EQUAL(std::string(row[0].name), "toy/scores");
  CHECK_EQUAL(reinterpret_cast<uint8_t*>(row)[sizeof(StreamInfoRow)], 0xAB);  // not a byte more than the row
  CHECK_EQUAL(api().release_vdevice(vdevice), kSuccess);
}

void DescribesStreams() { CheckInfos<StreamInfo, VStreamInfo>(); }
void DescribesStreams418() { CheckInfos<StreamInfoBefore420, VStreamInfoBefore420>(); }

void KnowsScalesPerFeature() {
  toy::HefOptions options;
  options.scale_per_feature = true;
  VDevice vdevice = OpenVDevice();
  Toy toy(vdevice, ToyHef(options));
  QuantInfo infos[32];
  size_t count = 2;
  CHECK_EQUAL(api().get_output_stream_quant_infos(toy.scores, infos, &count), kInsufficientBuffer);
  count = 32;
  CHECK_EQUAL(api().get_output_stream_quant_infos(toy.scores, infos, &count), kSuccess);
  CHECK_EQUAL(count, toy::kScores);
  CHECK_EQUAL(infos[2].scale, static_cast<float>(static_cast<double>(0.05F) * 3));
  StreamInfo info;
  CHECK_EQUAL(api().get_output_stream_info(toy.scores, &info), kSuccess);
  CHECK_EQUAL(info.quant_info.scale, 0.0F);
  TransformParams params = {0, {kTypeFloat32, kOrderAuto, 0}};
  OutputTransform context;
  CHECK_EQUAL(api().create_output_transform_context_by_stream(toy.scores, &params, &context), kSuccess);
  const uint8_t bytes[toy::kScoreBytes] = {91, 91, 92, 90, 0, 255, 7, 7};
  float values[toy::kScores];
  CHECK_EQUAL(api().transform_frame_by_output_transform_context(context, bytes, sizeof bytes, values, sizeof values),
              kSuccess);
  for (size_t i = 0; i < toy::kScores; i++) CHECK_EQUAL(values[i], (bytes[i] - 90.0F) * infos[i].scale);
  CHECK_EQUAL(api().release_output_transform_context(context), kSuccess);
  CHECK_EQUAL(api().release_vdevice(vdevice), kSuccess);
}

void SurvivesAnyHef() {
  VDevice vdevice = OpenVDevice();
  std::mt19937 random(1);
  const std::string proto = toy::Proto({0, ToyNetwork().Payload(), {26}, false});
  size_t accepted = 0;
  for (int i = 0; i < 3000; i++) {
    std::string mutant = proto;
    for (uint32_t changes = 1 + random() % 3; changes > 0; changes--) {
      // Most of the file is weights, which may be anything: aim at what is around them, too.
      const size_t at = random() % 2 == 0 ? random() % std::min<size_t>(mutant.size(), 900) : random() % mutant.size();
      if (random() % 4 == 0) mutant[at] = static_cast<char>(random());
      else mutant[at] ^= static_cast<char>(1 << random() % 8);
    }
    if (random() % 8 == 0) mutant.resize(random() % mutant.size());
    const std::string container = toy::Container(mutant);
    Hef hef = nullptr;
    if (api().create_hef_buffer(&hef, container.data(), container.size()) != kSuccess) continue;
    StreamInfo infos[8];
    size_t count = 8;
    api().hef_get_all_stream_infos(hef, nullptr, infos, 8, &count);
    NetworkGroup groups[8];
    count = 8;
    // The limit of core ops ends this soon; the network is read before it is reached.
    accepted += api().configure_vdevice(vdevice, hef, nullptr, groups, &count) == kSuccess;
    CHECK_EQUAL(api().release_hef(hef), kSuccess);
  }
  CHECK(accepted > 0 && accepted <= 32);
  CHECK_EQUAL(api().release_vdevice(vdevice), kSuccess);
}

// Configuring

void ConfiguresWhatItCanRun() {
  VDevice vdevice = OpenVDevice();
  NetworkGroup group;
  toy::HefOptions options;
  for (const uint32_t architecture : {0, 1, 2, 3}) {
    options.architecture = architecture;
    CHECK_EQUAL(Configure(vdevice, ToyHef(options), &group), kSuccess);
  }
  options.architecture = 5;
  CHECK_EQUAL(Configure(vdevice, ToyHef(options), &group), kHefNotCompatibleWithDevice);
  options.architecture = 1;
  options.mapping = "a real network's mapping";
  CHECK_EQUAL(Configure(vdevice, ToyHef(options), &group), kHefNotCompatibleWithDevice);
  options.mapping = ToyNetwork().Payload().substr(0, 700);
  CHECK_EQUAL(Configure(vdevice, ToyHef(options), &group), kInvalidHef);
  options.mapping = ToyNetwork().Payload();
  options.mapping[8 + 16 + 16] = 4;  // a tensor with fewer channels than its layer writes
  CHECK_EQUAL(Configure(vdevice, ToyHef(options), &group), kInvalidHef);

  Hef hef = LoadHef(ToyHef());
  size_t count = 0;
  CHECK_EQUAL(api().configure_vdevice(vdevice, hef, nullptr, &group, &count), kInsufficientBuffer);
  count = 1;
  CHECK_EQUAL(api().configure_vdevice(vdevice, hef, nullptr, &group, nullptr), kInvalidArgument);
  auto params = std::make_unique<ConfigureParams>();
  CHECK_EQUAL(api().init_configure_params_by_vdevice(hef, vdevice, params.get()), kSuccess);
  CHECK_EQUAL(params->count, 1U);
  const ConfigureNetworkGroupParams& group_params = params->groups[0];
  CHECK_EQUAL(std::string(group_params.name), "toy");
  CHECK(group_params.batch_size == 0 && group_params.power_mode == 0 && group_params.latency == 0);
  CHECK(group_params.stream_count == 3 && group_params.network_count == 1);
  CHECK_EQUAL(std::string(group_params.streams[0].name), "toy/input");
  CHECK_EQUAL(group_params.streams[1].stream_params.direction, kDeviceToHost);
  CHECK_EQUAL(std::string(group_params.networks[0].name), "toy/toy");
  std::strcpy(params->groups[0].name, "other");
  CHECK_EQUAL(api().configure_vdevice(vdevice, hef, params.get(), &group, &count), kNotFound);
  CHECK_EQUAL(api().release_hef(hef), kSuccess);
  CHECK_EQUAL(api().release_vdevice(vdevice), kSuccess);
}

void ConfiguresOn8L() {
  VDevice vdevice = OpenVDevice();
  NetworkGroup group;
  for (const uint32_t architecture : {0, 1, 2, 3}) {
    toy::HefOptions options;
    options.architecture = architecture;
    const bool fits = architecture == 0 || architecture == 3;
    CHECK_EQUAL(Configure(vdevice, ToyHef(options), &group), fits ? kSuccess : kHefNotCompatibleWithDevice);
  }
  CHECK_EQUAL(api().release_vdevice(vdevice), kSuccess);
}

void RefusesForeignHefs418() {
  VDevice vdevice = OpenVDevice();
  NetworkGroup group;
  toy::HefOptions options;
  options.architecture = 5;
  CHECK_EQUAL(Configure(vdevice, ToyHef(options), &group), kInvalidHef);
  CHECK_EQUAL(api().release_vdevice(vdevice), kSuccess);
}

void LimitsDifferentCoreOps() {
  VDevice vdevice = OpenVDevice();
  NetworkGroup group, equal;
  for (uint16_t batch_size = 1; batch_size <= 32; batch_size++) {
    CHECK_EQUAL(Configure(vdevice, ToyHef(), &group, batch_size), kSuccess);
    CHECK_EQUAL(Configure(vdevice, ToyHef(), &equal, batch_size), kSuccess);
    CHECK(group != equal);
  }
  CHECK_EQUAL(Configure(vdevice, ToyHef(), &group, 33), kInvalidOperation);
  CHECK_EQUAL(Configure(vdevice, ToyHef(), &group, 7), kSuccess);
  Toy toy(vdevice, ToyHef(), 32);
  CHECK_EQUAL(toy.depth, 64U);
  CHECK_EQUAL(api().release_vdevice(vdevice), kSuccess);
}

// Running

void ComputesTheNetwork() {
  VDevice vdevice = OpenVDevice();
  Toy toy(vdevice);
  CHECK_EQUAL(toy.depth, 8U);
  CHECK_EQUAL(api().get_input_stream_frame_size(toy.input), toy::kInputBytes);
  CHECK_EQUAL(api().get_output_stream_frame_size(toy.latent), toy::kLatentBytes);
  toy.Run(400);
  CHECK_EQUAL(api().frames(), 400U);
  CHECK_EQUAL(api().release_vdevice(vdevice), kSuccess);
}

/// FNV-1a of the outputs of the given HEF for random input frames.
uint64_t DigestOfArtifact() {
  VDevice vdevice = OpenVDevice();
  std::ifstream file(hef_path, std::ios::binary);
  const std::string bytes{std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
  NetworkGroup group;
  CHECK_EQUAL(Configure(vdevice, bytes, &group), kSuccess);
  Hef hef = LoadHef(bytes);
  StreamInfo infos[8];
  size_t count = 0;
  CHECK_EQUAL(api().hef_get_all_stream_infos(hef, nullptr, infos, 8, &count), kSuccess);
  CHECK_EQUAL(api().release_hef(hef), kSuccess);
  std::vector<std::unique_ptr<std::max_align_t[]>> buffers;
  for (size_t i = 0; i < count; i++)
    buffers.emplace_back(new std::max_align_t[infos[i].hardware_frame_bytes / sizeof(std::max_align_t) + 1]);
  std::mt19937 random(1);
  uint64_t digest = 0xcbf29ce484222325;
  for (int frame = 0; frame < 64; frame++) {
    std::atomic<size_t> done{0};
    const auto on_done = [](const CompletionInfo* info) {
      CHECK_EQUAL(info->status, kSuccess);
      (*static_cast<std::atomic<size_t>*>(info->opaque))++;
    };
    for (size_t i = count; i-- > 0;) {
      auto* const data = reinterpret_cast<uint8_t*>(buffers[i].get());
      if (infos[i].direction == kHostToDevice) {
        for (size_t at = 0; at < infos[i].hardware_frame_bytes; at++) data[at] = static_cast<uint8_t>(random());
        InputStream stream;
        CHECK_EQUAL(api().get_input_stream(group, infos[i].name, &stream), kSuccess);
        CHECK_EQUAL(api().stream_write_raw_buffer_async(stream, data, infos[i].hardware_frame_bytes, on_done, &done),
                    kSuccess);
      } else {
        OutputStream stream;
        CHECK_EQUAL(api().get_output_stream(group, infos[i].name, &stream), kSuccess);
        CHECK_EQUAL(api().stream_read_raw_buffer_async(stream, data, infos[i].hardware_frame_bytes, on_done, &done),
                    kSuccess);
      }
    }
    CHECK(Eventually([&] { return done == count; }));
    for (size_t i = 0; i < count; i++) {
      if (infos[i].direction == kHostToDevice) continue;
      const auto* const data = reinterpret_cast<const uint8_t*>(buffers[i].get());
      for (size_t at = 0; at < infos[i].hardware_frame_bytes; at++) digest = (digest ^ data[at]) * 0x100000001b3;
    }
  }
  CHECK_EQUAL(api().release_vdevice(vdevice), kSuccess);
  return digest;
}

void ComputesTheSameBitsInEveryWay() {
  if (hef_path == "-") return;
  std::vector<uint64_t> digests;
  for (const char* simd : {"off", "avx2", "avx512", "neon"}) {  // what this CPU has not is named on stderr
    int results[2];
    CHECK(pipe(results) == 0);
    const int exit_code = InOtherProcess([&] {
      setenv("SOFTHAILORT_SIMD", simd, 1);
      const uint64_t digest = DigestOfArtifact();
      return write(results[1], &digest, sizeof digest) == sizeof digest ? 0 : 1;
    });
    CHECK_EQUAL(exit_code, 0);
    digests.emplace_back();
    CHECK_EQUAL(read(results[0], &digests.back(), sizeof digests[0]), static_cast<ssize_t>(sizeof digests[0]));
  }
  for (const uint64_t digest : digests) CHECK_EQUAL(digest, digests[0]);
}

void ChecksTransfers() {
  VDevice vdevice = OpenVDevice();
  Toy toy(vdevice);
  alignas(64) uint8_t buffer[256] = {};
  const auto write = [&](const void* address, size_t bytes, CompletionCallback callback) {
    return api().stream_write_raw_buffer_async(toy.input, address, bytes, callback, nullptr);
  };
  CHECK_EQUAL(write(nullptr, toy::kInputBytes, Toy::OnDone), kInvalidArgument);
  CHECK_EQUAL(write(buffer, toy::kInputBytes, nullptr), kInvalidArgument);
  CHECK_EQUAL(write(buffer, toy::kInputBytes - 1, Toy::OnDone), kInvalidArgument);
  CHECK_EQUAL(write(buffer + 4, toy::kInputBytes, Toy::OnDone), kInvalidArgument);
  CHECK_EQUAL(api().stream_read_raw_buffer_async(toy.latent, buffer + 1, toy::kLatentBytes, Toy::OnDone, nullptr),
              kInvalidArgument);
  CHECK_EQUAL(api().stream_wait_for_async_input_ready(toy.input, 5, 10), kInvalidOperation);
  InputStream stream;
  CHECK_EQUAL(api().get_input_stream(toy.group, "toy/latent", &stream), kNotFound);
  CHECK_EQUAL(api().get_input_stream(toy.group, nullptr, &stream), kInvalidArgument);
  toy.Run(3);
  CHECK_EQUAL(api().release_vdevice(vdevice), kSuccess);
}

void KeepsOrderInManyGroups() {
  VDevice vdevice = OpenVDevice("SHARED");
  std::vector<std::unique_ptr<Toy>> toys;
  for (int i = 0; i < 4; i++) toys.push_back(std::make_unique<Toy>(vdevice));
  std::vector<std::thread> threads;
  for (auto& toy : toys) threads.emplace_back([&toy] { toy->Run(1500); });
  for (std::thread& thread : threads) thread.join();
  CHECK_EQUAL(toys[0]->threads.size(), 1U);
  for (auto& toy : toys) CHECK(toy->threads == toys[0]->threads);  // one interrupt thread for all
  CHECK_EQUAL(api().frames(), 6000U);
  CHECK_EQUAL(api().release_vdevice(vdevice), kSuccess);
}

void ServesGroupsInTurn() {
  VDevice vdevice = OpenVDevice();
  Toy greedy(vdevice), modest(vdevice, ToyHef(), 1);  // another batch size makes it another core op
  // Both keep their queues full for as long as the greedy one runs.
  for (Toy* toy : {&greedy, &modest}) {
    toy->on_frame = [toy] {
      if (toy->completed < 400) toy->Submit();
    };
  }
  SetFaults("stall");
  for (size_t i = 0; i < greedy.depth; i++) {
    CHECK_EQUAL(greedy.Submit(), kSuccess);
    CHECK_EQUAL(modest.Submit(), kSuccess);
  }
  SetFaults("");
  CHECK(greedy.WaitFor(300));
  const uint64_t served = modest.Completed();
  CHECK(served > 250);
  CHECK(greedy.WaitFor(400 + greedy.depth - 1) && modest.WaitFor(400 + modest.depth - 1));
  greedy.CheckResults();
  modest.CheckResults();
  CHECK_EQUAL(api().release_vdevice(vdevice), kSuccess);
}

void FillsItsQueue() {
  VDevice vdevice = OpenVDevice();
  Toy toy(vdevice);
  SetFaults("stall");
  for (size_t i = 0; i < toy.depth; i++) CHECK_EQUAL(toy.Submit(), kSuccess);
  alignas(64) static uint8_t extra[toy::kInputBytes];
  CHECK_EQUAL(api().stream_write_raw_buffer_async(toy.input, extra, sizeof extra, Toy::OnDone, nullptr), kQueueIsFull);
  CHECK_EQUAL(api().stream_read_raw_buffer_async(toy.latent, extra, toy::kLatentBytes, Toy::OnDone, nullptr),
              kQueueIsFull);
  const auto start = std::chrono::steady_clock::now();
  CHECK_EQUAL(api().stream_wait_for_async_input_ready(toy.input, toy::kInputBytes, 50), kTimeout);
  CHECK(Milliseconds(std::chrono::steady_clock::now() - start) >= 49);
  CHECK_EQUAL(toy.Completed(), 0U);
  std::thread healer([] {
    std::this_thread::sleep_for(20ms);
    SetFaults("");
  });
  CHECK_EQUAL(api().stream_wait_for_async_output_ready(toy.scores, toy::kScoreBytes, 5000), kSuccess);
  healer.join();
  CHECK(toy.WaitFor(toy.depth));
  toy.Run(20);
  CHECK_EQUAL(api().release_vdevice(vdevice), kSuccess);
}

void HonoursTheConfiguredDepth() {
  VDevice vdevice = OpenVDevice();
  Toy toy(vdevice);
  CHECK_EQUAL(toy.depth, 3U);
  toy.Run(30);
  CHECK_EQUAL(api().release_vdevice(vdevice), kSuccess);
}

void ResubmitsFromCallbacks() {
  VDevice vdevice = OpenVDevice();
  Toy toy(vdevice);
  toy.on_frame = [&] {
    if (toy.submitted < 500) toy.Submit();
  };
  CHECK_EQUAL(api().stream_wait_for_async_input_ready(toy.input, toy::kInputBytes, 1000), kSuccess);
  SetFaults("stall");
  for (size_t i = 0; i < toy.depth; i++) CHECK_EQUAL(toy.Submit(), kSuccess);
  SetFaults("");
  CHECK(toy.WaitFor(500));
  toy.CheckResults();
  CHECK_EQUAL(api().release_vdevice(vdevice), kSuccess);
}

void AbortsOnShutdown() {
  VDevice vdevice = OpenVDevice();
  Toy toy(vdevice), other(vdevice);
  SetFaults("stall");
  for (int i = 0; i < 5; i++) CHECK_EQUAL(toy.Submit(), kSuccess);
  std::thread waiter;
  std::atomic<Status> waited{kSuccess};
  for (int i = 5; i < static_cast<int>(toy.depth); i++) CHECK_EQUAL(toy.Submit(), kSuccess);
  waiter = std::thread([&] { waited = api().stream_wait_for_async_input_ready(toy.input, toy::kInputBytes, 5000); });
  std::this_thread::sleep_for(20ms);
  CHECK_EQUAL(api().shutdown_network_group(toy.group), kSuccess);
  CHECK_EQUAL(toy.Completed(), toy.depth);  // shutdown returns after the callbacks
  CHECK_EQUAL(toy.last_status, kStreamAbort);
  CHECK(toy.is_in_order);
  waiter.join();
  CHECK_EQUAL(waited.load(), kStreamAbort);
  CHECK_EQUAL(toy.Submit(), kStreamAbort);
  CHECK_EQUAL(api().stream_wait_for_async_output_ready(toy.scores, toy::kScoreBytes, 10), kStreamAbort);
  CHECK_EQUAL(api().shutdown_network_group(toy.group), kSuccess);
  SetFaults("");
  other.Run(5);
  Toy next(vdevice);
  next.Run(5);
  CHECK_EQUAL(api().release_vdevice(vdevice), kSuccess);
}

void AbortsOnRelease() {
  VDevice vdevice = OpenVDevice();
  Toy toy(vdevice);
  SetFaults("stall");
  for (int i = 0; i < 5; i++) CHECK_EQUAL(toy.Submit(), kSuccess);
  CHECK_EQUAL(api().release_vdevice(vdevice), kSuccess);
  CHECK_EQUAL(toy.Completed(), 5U);
  CHECK_EQUAL(toy.last_status, kStreamAbort);
}

void NeedsActivationWithoutScheduler() {
  VDevice vdevice = OpenVDevice(kUniqueGroup, kSchedulerNone);
  Toy toy(vdevice), other(vdevice);
  CHECK_EQUAL(toy.Submit(), kStreamNotActivated);
  ActivatedNetworkGroup activated, second;
  CHECK_EQUAL(api().activate_network_group(toy.group, nullptr, &activated), kSuccess);
  CHECK_EQUAL(api().activate_network_group(other.group, nullptr, &second), kInvalidOperation);
  CHECK_EQUAL(api().activate_network_group(toy.group, nullptr, &second), kInvalidOperation);
  toy.Run(20);
  CHECK_EQUAL(other.Submit(), kStreamNotActivated);
  CHECK_EQUAL(api().set_scheduler_priority(toy.group, 16, nullptr), kInvalidOperation);
  CHECK_EQUAL(api().set_scheduler_timeout(toy.group, 16, nullptr), kInvalidOperation);
  CHECK_EQUAL(api().deactivate_network_group(activated), kSuccess);
  CHECK_EQUAL(toy.Submit(), kStreamNotActivated);
  CHECK_EQUAL(api().activate_network_group(other.group, nullptr, &activated), kSuccess);
  other.Run(20);
  CHECK_EQUAL(api().deactivate_network_group(activated), kSuccess);

  NetworkGroup synchronous;
  CHECK_EQUAL(Configure(vdevice, ToyHef(), &synchronous, 0, false), kSuccess);
  CHECK_EQUAL(api().activate_network_group(synchronous, nullptr, &activated), kSuccess);
  InputStream input;
  CHECK_EQUAL(api().get_input_stream(synchronous, "toy/input", &input), kSuccess);
  alignas(64) uint8_t buffer[toy::kInputBytes] = {};
  CHECK_EQUAL(api().stream_write_raw_buffer_async(input, buffer, sizeof buffer, Toy::OnDone, nullptr),
              kInvalidOperation);
  CHECK_EQUAL(api().deactivate_network_group(activated), kSuccess);
  CHECK_EQUAL(api().release_vdevice(vdevice), kSuccess);
}

void ActivatesUnderItsScheduler() {
  VDevice vdevice = OpenVDevice();
  Toy toy(vdevice);
  ActivatedNetworkGroup activated;
  CHECK_EQUAL(api().activate_network_group(toy.group, nullptr, &activated), kInvalidOperation);
  CHECK_EQUAL(api().set_scheduler_timeout(toy.group, 5, nullptr), kSuccess);
  CHECK_EQUAL(api().set_scheduler_threshold(toy.group, 1, nullptr), kSuccess);
  CHECK_EQUAL(api().set_scheduler_priority(toy.group, 16, nullptr), kSuccess);
  CHECK_EQUAL(api().set_scheduler_priority(toy.group, 32, nullptr), kInvalidArgument);
  CHECK_EQUAL(api().release_vdevice(vdevice), kSuccess);
}

// Transforms and vstreams

void QuantisesAsHailoRt() {
  VDevice vdevice = OpenVDevice();
  Toy toy(vdevice);
  TransformParams params = {0, {kTypeFloat32, kOrderNhwc, 0}};
  InputTransform context;
  CHECK_EQUAL(api().create_input_transform_context_by_stream(toy.input, &params, &context), kSuccess);
  const struct {
    float value;
    uint8_t byte;
  } vectors[] = {{0, 128},        {0.03125F, 128}, {-0.03125F, 128}, {0.09375F, 130}, {0.15625F, 130},
                 {0.03126F, 129}, {0.0312F, 128},  {-8, 0},          {-8.1F, 0},      {-100, 0},
                 {7.9375F, 255},  {8, 255},        {100, 255},       {NAN, 0},        {INFINITY, 255},
                 {-INFINITY, 0},  {1e30F, 255},    {-0.0F, 128},     {0.0625F, 129},  {0.046875F, 129}};
  float window[toy::kLength][toy::kChannels];
  uint8_t frame[toy::kInputBytes];
  for (const auto& vector : vectors) {
    std::fill_n(&window[0][0], toy::kLength * toy::kChannels, vector.value);
    CHECK_EQUAL(api().transform_frame_by_input_transform_context(context, window, sizeof window, frame, sizeof frame),
                kSuccess);
    CHECK_EQUAL(frame[0], vector.byte);
  }
  for (size_t t = 0; t < toy::kLength; t++) {
    for (size_t channel = 0; channel < toy::kChannels; channel++)
      window[t][channel] = static_cast<float>(t * 5 + channel) / 16 - 3;
  }
  std::memset(frame, 0xEE, sizeof frame);
  CHECK_EQUAL(api().transform_frame_by_input_transform_context(context, window, sizeof window, frame, sizeof frame),
              kSuccess);
  for (size_t channel = 0; channel < toy::kChannels; channel++) {
    for (size_t t = 0; t < toy::kPaddedLength; t++) {
      CHECK_EQUAL(frame[channel * toy::kPaddedLength + t], t < toy::kLength ? 128 - 48 + t * 5 + channel : 0);
    }
  }
  CHECK_EQUAL(api().transform_frame_by_input_transform_context(context, window, 8, frame, sizeof frame),
              kInvalidArgument);
  CHECK_EQUAL(api().transform_frame_by_input_transform_context(context, window, sizeof window, frame, 8),
              kInvalidArgument);
  CHECK_EQUAL(api().release_input_transform_context(context), kSuccess);

  params = {0, {kTypeFloat32, kOrderAuto, 0}};
  OutputTransform output;
  CHECK_EQUAL(api().create_output_transform_context_by_stream(toy.latent, &params, &output), kSuccess);
  uint8_t bytes[toy::kLatentBytes];
  for (size_t i = 0; i < sizeof bytes; i++) bytes[i] = static_cast<uint8_t>(10 * i);
  float values[toy::kLatents];
  CHECK_EQUAL(api().transform_frame_by_output_transform_context(output, bytes, sizeof bytes, values, sizeof values),
              kSuccess);
  for (size_t i = 0; i < toy::kLatents; i++) CHECK_EQUAL(values[i], (static_cast<float>(bytes[i]) - 117.0F) * 0.02F);
  CHECK_EQUAL(api().release_output_transform_context(output), kSuccess);
  params = {0, {kTypeUint16, kOrderAuto, 0}};
  CHECK_EQUAL(api().create_output_transform_context_by_stream(toy.latent, &params, &output), kInvalidArgument);
  CHECK_EQUAL(api().release_vdevice(vdevice), kSuccess);
}

struct VStreams {
  VStreams(NetworkGroup group, uint32_t timeout_ms, int32_t type = kTypeFloat32) {
    VStreamParamsByName params[2];
    size_t count = 2;
    CHECK_EQUAL(api().make_input_vstream_params(group, false, type, params, &count), kSuccess);
    CHECK_EQUAL(count, 1U);
    CHECK(params[0].params.timeout_ms == 10'000 && params[0].params.queue_size == 2 &&
          params[0].params.format.type == type);
    params[0].params.timeout_ms = timeout_ms;
    status = api().create_input_vstreams(group, params, 1, &input);
    if (status != kSuccess) return;
    count = 2;
    CHECK_EQUAL(api().make_output_vstream_params(group, false, type, params, &count), kSuccess);
    for (auto& each : params) each.params.timeout_ms = timeout_ms;
    status = api().create_output_vstreams(group, params, 2, outputs);
  }
  void Release() {
    CHECK_EQUAL(api().release_input_vstreams(&input, 1), kSuccess);
    CHECK_EQUAL(api().release_output_vstreams(outputs, 2), kSuccess);
  }
  Status status;
  InputVStream input = nullptr;
  OutputVStream outputs[2] = {};
};

struct FloatFrame {
  explicit FloatFrame(uint64_t i) {
    const auto bytes = toy::Frame(i);
    const auto result = ToyNetwork().Run(bytes.data());
    for (size_t t = 0; t < toy::kLength; t++) {
      for (size_t channel = 0; channel < toy::kChannels; channel++) {
        window[t][channel] = (static_cast<float>(bytes[channel * toy::kPaddedLength + t]) - 128) * toy::kInputScale;
      }
    }
    for (size_t j = 0; j < toy::kLatents; j++) latent[j] = (static_cast<float>(result.latent[j]) - 117) * 0.02F;
    for (size_t j = 0; j < toy::kScores; j++) scores[j] = (static_cast<float>(result.scores[j]) - 90) * 0.05F;
  }
  float window[toy::kLength][toy::kChannels];
  float latent[toy::kLatents], scores[toy::kScores];
};

void CheckRead(const VStreams& vstreams, uint64_t frame) {
  const FloatFrame expected(frame);
  float latent[toy::kLatents], scores[toy::kScores];
  CHECK_EQUAL(api().vstream_read_raw_buffer(vstreams.outputs[0], latent, sizeof latent), kSuccess);
  CHECK_EQUAL(api().vstream_read_raw_buffer(vstreams.outputs[1], scores, sizeof scores), kSuccess);
  CHECK(std::memcmp(latent, expected.latent, sizeof latent) == 0);
  CHECK(std::memcmp(scores, expected.scores, sizeof scores) == 0);
}

void RunsVStreams() {
  VDevice vdevice = OpenVDevice();
  NetworkGroup group;
  CHECK_EQUAL(Configure(vdevice, ToyHef(), &group), kSuccess);
  VStreams vstreams(group, 1000);
  CHECK_EQUAL(vstreams.status, kSuccess);
  CHECK_EQUAL(VStreams(group, 1000).status, kInvalidOperation);
  size_t bytes = 0;
  CHECK_EQUAL(api().get_input_vstream_frame_size(vstreams.input, &bytes), kSuccess);
  CHECK_EQUAL(bytes, sizeof(float) * toy::kLength * toy::kChannels);
  CHECK_EQUAL(api().get_output_vstream_frame_size(vstreams.outputs[1], &bytes), kSuccess);
  CHECK_EQUAL(bytes, sizeof(float) * toy::kScores);
  VStreamInfo info;
  CHECK_EQUAL(api().get_output_vstream_info(vstreams.outputs[0], &info), kSuccess);
  CHECK_EQUAL(std::string(info.name), "toy/latent");
  CHECK_EQUAL(api().vstream_write_raw_buffer(vstreams.input, "", 1), kInvalidArgument);
  for (uint64_t i = 0; i < 20; i++) {
    const FloatFrame frame(i);
    CHECK_EQUAL(api().vstream_write_raw_buffer(vstreams.input, frame.window, sizeof frame.window), kSuccess);
    CheckRead(vstreams, i);
  }
  std::thread writer([&] {
    for (uint64_t i = 0; i < 500; i++) {
      const FloatFrame frame(i);
      CHECK_EQUAL(api().vstream_write_raw_buffer(vstreams.input, frame.window, sizeof frame.window), kSuccess);
    }
  });
  for (uint64_t i = 0; i < 500; i++) CheckRead(vstreams, i);
  writer.join();
  vstreams.Release();
  VStreams bytewise(group, 1000, kTypeUint8);
  CHECK_EQUAL(bytewise.status, kSuccess);
  CHECK_EQUAL(api().get_input_vstream_frame_size(bytewise.input, &bytes), kSuccess);
  CHECK_EQUAL(bytes, toy::kLength * toy::kChannels);
  bytewise.Release();
  CHECK_EQUAL(api().release_vdevice(vdevice), kSuccess);
}

void TimesVStreamsOut() {
  VDevice vdevice = OpenVDevice();
  NetworkGroup group;
  CHECK_EQUAL(Configure(vdevice, ToyHef(), &group), kSuccess);
  VStreams vstreams(group, 60);
  float latent[toy::kLatents];
  const FloatFrame frame(0);
  CHECK_EQUAL(api().vstream_read_raw_buffer(vstreams.outputs[0], latent, sizeof latent), kTimeout);
  SetFaults("stall");
  size_t written = 0;
  Status status;
  while ((status = api().vstream_write_raw_buffer(vstreams.input, frame.window, sizeof frame.window)) == kSuccess)
    written++;
  CHECK_EQUAL(status, kTimeout);
  CHECK(written >= 8 && written <= 12);
  CHECK_EQUAL(api().vstream_read_raw_buffer(vstreams.outputs[0], latent, sizeof latent), kTimeout);
  vstreams.Release();  // waits for what is in flight, and gives up
  SetFaults("");
  VStreams again(group, 1000);
  CHECK_EQUAL(again.status, kSuccess);
  // What was under way is still answered to the old vstreams' buffers, so the new ones start with their own frame.
  for (uint64_t i = 5; i < 15; i++) {
    const FloatFrame next(i);
    CHECK_EQUAL(api().vstream_write_raw_buffer(again.input, next.window, sizeof next.window), kSuccess);
    CheckRead(again, i);
  }
  CHECK_EQUAL(api().shutdown_network_group(group), kSuccess);
  CHECK_EQUAL(api().vstream_write_raw_buffer(again.input, frame.window, sizeof frame.window), kStreamAbort);
  CHECK_EQUAL(api().vstream_read_raw_buffer(again.outputs[0], latent, sizeof latent), kStreamAbort);
  again.Release();
  CHECK_EQUAL(api().release_vdevice(vdevice), kSuccess);
}

void ExcludesSyncAndAsync() {
  VDevice vdevice = OpenVDevice();
  Toy toy(vdevice);
  toy.Run(1);
  CHECK_EQUAL(VStreams(toy.group, 100).status, kInvalidOperation);
  NetworkGroup group;
  CHECK_EQUAL(Configure(vdevice, ToyHef(), &group), kSuccess);
  VStreams vstreams(group, 100);
  CHECK_EQUAL(vstreams.status, kSuccess);
  InputStream input;
  CHECK_EQUAL(api().get_input_stream(group, "toy/input", &input), kSuccess);
  alignas(64) uint8_t buffer[toy::kInputBytes] = {};
  CHECK_EQUAL(api().stream_write_raw_buffer_async(input, buffer, sizeof buffer, Toy::OnDone, nullptr),
              kInvalidOperation);
  vstreams.Release();
  CHECK_EQUAL(api().stream_write_raw_buffer_async(input, buffer, sizeof buffer, Toy::OnDone, nullptr),
              kInvalidOperation);
  CHECK_EQUAL(api().release_vdevice(vdevice), kSuccess);
}

void RunsVStreamsWithoutScheduler() {
  VDevice vdevice = OpenVDevice(kUniqueGroup, kSchedulerNone);
  NetworkGroup group;
  CHECK_EQUAL(Configure(vdevice, ToyHef(), &group, 0, false), kSuccess);
  VStreams vstreams(group, 1000);
  CHECK_EQUAL(vstreams.status, kSuccess);
  const FloatFrame frame(3);
  CHECK_EQUAL(api().vstream_write_raw_buffer(vstreams.input, frame.window, sizeof frame.window),
              kNetworkGroupNotActivated);
  ActivatedNetworkGroup activated;
  CHECK_EQUAL(api().activate_network_group(group, nullptr, &activated), kSuccess);
  CHECK_EQUAL(api().vstream_write_raw_buffer(vstreams.input, frame.window, sizeof frame.window), kSuccess);
  CheckRead(vstreams, 3);
  vstreams.Release();
  CHECK_EQUAL(api().deactivate_network_group(activated), kSuccess);
  CHECK_EQUAL(api().release_vdevice(vdevice), kSuccess);
}

// Faults

void ParsesFaults() {
  CHECK_EQUAL(api().control(nullptr), 2);
  for (const char* wrong : {"stal", "stall=1", "temperature", "temperature=warm", "driver=4.22", "after=-1",
                            "after=1.5", "fail_submit=0", "stall nonsense", "slow_shutdown=x"}) {
    CHECK_EQUAL(api().control(wrong), 2);
  }
  CHECK_EQUAL(api().control("  stall   temperature=110.5 driver=4.22.0 after=3 fail_submit=36 slow_shutdown=5 "), 0);
  CHECK_EQUAL(api().control(""), 0);
}

void DropsCompletions() {
  VDevice vdevice = OpenVDevice();
  Toy toy(vdevice), other(vdevice);
  toy.Run(2);
  SetFaults("drop");
  for (int i = 0; i < 3; i++) CHECK_EQUAL(toy.Submit(), kSuccess);
  std::this_thread::sleep_for(50ms);
  SetFaults("");
  std::this_thread::sleep_for(30ms);
  CHECK_EQUAL(toy.Completed(), 2U);
  other.Run(5);
  // The lost transfers keep their places in the queue.
  SetFaults("stall");
  size_t taken = 0;
  while (toy.Submit() == kSuccess) taken++;
  CHECK_EQUAL(taken, toy.depth - 3);
  SetFaults("");
  CHECK_EQUAL(api().shutdown_network_group(toy.group), kSuccess);
  CHECK_EQUAL(api().release_vdevice(vdevice), kSuccess);
}

void AbortsWhatIsInFlight() {
  VDevice vdevice = OpenVDevice();
  Toy toy(vdevice);
  SetFaults("stall");
  for (int i = 0; i < 4; i++) CHECK_EQUAL(toy.Submit(), kSuccess);
  SetFaults("abort");
  CHECK(toy.WaitFor(4));
  CHECK_EQUAL(toy.last_status, kStreamAbort);
  CHECK_EQUAL(toy.Submit(), kStreamAbort);
  Toy next(vdevice);
  next.Run(5);  // momentary: what is configured afterwards works while the fault is still set
  SetFaults("");
  CHECK_EQUAL(toy.Submit(), kStreamAbort);
  SetFaults("abort");
  CHECK_EQUAL(next.Submit(), kStreamAbort);
  CHECK_EQUAL(api().release_vdevice(vdevice), kSuccess);
}

void Unplugs() {
  VDevice vdevice = OpenVDevice();
  Device device;
  CHECK_EQUAL(api().create_device_by_id(nullptr, &device), kSuccess);
  Toy toy(vdevice);
  SetFaults("stall");
  for (int i = 0; i < 4; i++) CHECK_EQUAL(toy.Submit(), kSuccess);
  std::atomic<Status> waited{kSuccess};
  for (size_t i = 4; i < toy.depth; i++) CHECK_EQUAL(toy.Submit(), kSuccess);
  std::thread waiter([&] { waited = api().stream_wait_for_async_input_ready(toy.input, toy::kInputBytes, 5000); });
  std::this_thread::sleep_for(20ms);
  SetFaults("unplug");
  waiter.join();
  CHECK_EQUAL(waited.load(), kDriverOperationFailed);
  DeviceId ids[2];
  size_t count = 2;
  CHECK_EQUAL(api().scan_devices(nullptr, ids, &count), kSuccess);
  CHECK_EQUAL(count, 0U);
  CHECK_EQUAL(StatusOfVDevice(DefaultParams()), kOutOfPhysicalDevices);
  DeviceIdentity identity;
  NetworkGroup group;
  alignas(64) uint8_t buffer[64];
  for (const char* state : {"unplug", ""}) {
    SetFaults(state);
    CHECK_EQUAL(api().identify(device, &identity), kDriverOperationFailed);
    CHECK_EQUAL(toy.Submit(), kDriverOperationFailed);
    CHECK_EQUAL(Configure(vdevice, ToyHef(), &group), kDriverOperationFailed);
    CHECK_EQUAL(api().vdevice_dma_map_buffer(vdevice, buffer, 64, 0), kDriverOperationFailed);
    CHECK_EQUAL(api().stream_wait_for_async_input_ready(toy.input, toy::kInputBytes, 1000), kDriverOperationFailed);
    CHECK_EQUAL(api().shutdown_network_group(toy.group), kDriverOperationFailed);
  }
  VDevice next = OpenVDevice();  // although the old one is still held
  Toy again(next);
  again.Run(10);
  CHECK_EQUAL(api().release_vdevice(vdevice), kSuccess);
  CHECK_EQUAL(toy.Completed(), 0U);
  CHECK_EQUAL(StatusOfVDevice(DefaultParams()),
              kOutOfPhysicalDevices);  // releasing the dead one freed nothing of the new one
  CHECK_EQUAL(api().release_device(device), kSuccess);
  again.Run(10);
  CHECK_EQUAL(api().release_vdevice(next), kSuccess);
  CHECK_EQUAL(StatusOfVDevice(DefaultParams()), kSuccess);
}

void UnplugsUnderVStreams() {
  VDevice vdevice = OpenVDevice();
  NetworkGroup group;
  CHECK_EQUAL(Configure(vdevice, ToyHef(), &group), kSuccess);
  VStreams vstreams(group, 5000);
  std::thread unplugger([] {
    std::this_thread::sleep_for(30ms);
    SetFaults("unplug");
  });
  float latent[toy::kLatents];
  CHECK_EQUAL(api().vstream_read_raw_buffer(vstreams.outputs[0], latent, sizeof latent), kDriverOperationFailed);
  unplugger.join();
  vstreams.Release();
  CHECK_EQUAL(api().release_vdevice(vdevice), kSuccess);
}

void RefusesVDevices() {
  VDeviceParams by_id = DefaultParams();
  DeviceId id = {"0000:01:00.0"};
  by_id.device_ids = &id;
  SetFaults("busy");
  CHECK_EQUAL(StatusOfVDevice(DefaultParams()), kOutOfPhysicalDevices);
  CHECK_EQUAL(StatusOfVDevice(by_id), kDeviceInUse);
  SetFaults("driver=4.22.0");
  CHECK_EQUAL(StatusOfVDevice(DefaultParams()), kInvalidDriverVersion);
  SetFaults("driver=4.23.0");
  CHECK_EQUAL(StatusOfVDevice(DefaultParams()), kSuccess);
  SetFaults("firmware");
  CHECK_EQUAL(StatusOfVDevice(DefaultParams()), kUnsupportedFirmware);
  SetFaults("");
  VDevice vdevice = OpenVDevice();
  NetworkGroup group;
  SetFaults("page_size");
  CHECK_EQUAL(Configure(vdevice, ToyHef(), &group), kInternalFailure);
  SetFaults("no_memory");
  CHECK_EQUAL(Configure(vdevice, ToyHef(), &group), kOutOfHostCmaMemory);
  SetFaults("");
  CHECK_EQUAL(Configure(vdevice, ToyHef(), &group), kSuccess);
  CHECK_EQUAL(api().release_vdevice(vdevice), kSuccess);
}

void CheckControlTimeout(Status expected) {
  Device device;
  CHECK_EQUAL(api().create_device_by_id(nullptr, &device), kSuccess);
  SetFaults("control_timeout");
  DeviceIdentity identity;
  ChipTemperature temperature;
  CHECK_EQUAL(api().identify(device, &identity), expected);
  CHECK_EQUAL(api().get_chip_temperature(device, &temperature), expected);
  SetFaults("");
  CHECK_EQUAL(api().identify(device, &identity), kSuccess);
  CHECK_EQUAL(api().release_device(device), kSuccess);
}

void TimesControlsOut() { CheckControlTimeout(kDriverTimeout); }
void TimesControlsOut418() { CheckControlTimeout(kFirmwareControlFailure); }

void CorruptsResults() {
  VDevice vdevice = OpenVDevice();
  Toy toy(vdevice);
  SetFaults("wrong");
  CHECK_EQUAL(toy.Submit(), kSuccess);
  CHECK(toy.WaitFor(1));
  CHECK_EQUAL(toy.wrong_results, 1U);
  const auto expected = ToyNetwork().Run(toy::Frame(0).data());
  for (size_t i = 0; i < toy::kLatentBytes; i++) CHECK_EQUAL(toy.slots[0]->latent[i], expected.latent[i] ^ 0x55);
  SetFaults("fail_submit=81");
  CHECK_EQUAL(toy.Submit(), kOutOfHostCmaMemory);
  CHECK_EQUAL(api().release_vdevice(vdevice), kSuccess);
}

void FailsAfterSomeFrames() {
  VDevice vdevice = OpenVDevice();
  Toy toy(vdevice);
  SetFaults("stall after=5");
  for (size_t i = 0; i < toy.depth; i++) CHECK_EQUAL(toy.Submit(), kSuccess);
  CHECK(toy.WaitFor(5));
  std::this_thread::sleep_for(30ms);
  CHECK_EQUAL(toy.Completed(), 5U);
  SetFaults("");
  CHECK(toy.WaitFor(toy.depth));
  toy.CheckResults();
  CHECK_EQUAL(api().release_vdevice(vdevice), kSuccess);
}

void TakesFaultsFromTheEnvironment() {
  VDevice vdevice = OpenVDevice();
  Toy toy(vdevice);
  for (size_t i = 0; i < 4; i++) CHECK_EQUAL(toy.Submit(), kSuccess);
  CHECK(toy.WaitFor(2));
  std::this_thread::sleep_for(20ms);
  CHECK_EQUAL(toy.Completed(), 2U);
  SetFaults("");
  CHECK(toy.WaitFor(4));
  CHECK_EQUAL(api().release_vdevice(vdevice), kSuccess);
}

void IgnoresNonsenseInTheEnvironment() {
  VDevice vdevice = OpenVDevice();
  Toy toy(vdevice);
  toy.Run(3);
  CHECK_EQUAL(api().release_vdevice(vdevice), kSuccess);
}

void TakesFaultsFromAFile() {
  const char* const path = std::getenv("SOFTHAILORT_CONTROL_FILE");
  const auto write_file = [&](const char* content) {
    std::ofstream(std::string(path) + ".new") << content;
    CHECK(rename((std::string(path) + ".new").c_str(), path) == 0);
  };
  VDevice vdevice = OpenVDevice();
  Toy toy(vdevice);
  toy.Run(3);
  write_file("stall\n");
  std::this_thread::sleep_for(50ms);
  CHECK_EQUAL(toy.Submit(), kSuccess);
  CHECK(!toy.WaitFor(4, 50ms));
  write_file("no such fault\n");
  CHECK(!toy.WaitFor(4, 50ms));
  CHECK(unlink(path) == 0);
  CHECK(toy.WaitFor(4));  // nobody called: the device itself looks at the file
  write_file("unplug\n");
  CHECK(Eventually([&] { return toy.Submit() == kDriverOperationFailed; }));
  CHECK_EQUAL(api().release_vdevice(vdevice), kSuccess);
}

struct Notifications {
  static void OnNotification(Device, const Notification* notification, void* opaque) {
    auto* const notifications = static_cast<Notifications*>(opaque);
    std::lock_guard<std::mutex> lock(notifications->mutex);
    notifications->received.push_back(*notification);
  }
  void Listen(Device device) {
    for (const int32_t id : {kTemperatureAlarm, kDataflowShutdown, kClockChanged, kContextSwitchRunTimeError}) {
      CHECK_EQUAL(api().set_notification_callback(device, OnNotification, id, this), kSuccess);
    }
  }
  size_t Count(int32_t id) {
    std::lock_guard<std::mutex> lock(mutex);
    return std::count_if(received.begin(), received.end(), [&](const Notification& each) { return each.id == id; });
  }
  Notification Last(int32_t id) {
    std::lock_guard<std::mutex> lock(mutex);
    Notification last{};
    for (const Notification& each : received) {
      if (each.id == id) last = each;
    }
    return last;
  }
  std::mutex mutex;
  std::vector<Notification> received;
};

void GetsHot() {
  VDevice vdevice = OpenVDevice();
  Device device;
  size_t count = 1;
  CHECK_EQUAL(api().get_physical_devices(vdevice, &device, &count), kSuccess);
  Notifications notifications;
  notifications.Listen(device);
  CHECK_EQUAL(api().set_notification_callback(device, nullptr, kClockChanged, nullptr), kInvalidArgument);
  Toy toy(vdevice);
  SetFaults("temperature=103.5");
  ChipTemperature temperature;
  CHECK_EQUAL(api().get_chip_temperature(device, &temperature), kSuccess);
  CHECK_EQUAL(temperature.sensor1_celsius, 103.5F);
  std::this_thread::sleep_for(30ms);
  CHECK_EQUAL(notifications.Count(kTemperatureAlarm), 0U);
  SetFaults("temperature=110.5");
  CHECK(Eventually([&] { return notifications.Count(kClockChanged) == 4; }));
  CHECK_EQUAL(notifications.Count(kTemperatureAlarm), 1U);
  const Notification alarm = notifications.Last(kTemperatureAlarm);
  CHECK_EQUAL(alarm.body.temperature_alarm.zone, kZoneOrange);
  CHECK_EQUAL(alarm.body.temperature_alarm.sensor0_celsius, 110.5F);
  const Notification slow = notifications.Last(kClockChanged);
  CHECK(slow.body.clock_change.previous_hz == 250'000'000 && slow.body.clock_change.current_hz == 200'000'000);
  ExtendedDeviceInformation information{};
  CHECK_EQUAL(api().get_extended_device_information(device, &information), kSuccess);
  CHECK(information.neural_network_core_clock_hz == 200'000'000);
  toy.Run(5);
  SetFaults("temperature=99");  // not cool enough yet
  std::this_thread::sleep_for(30ms);
  CHECK_EQUAL(notifications.Count(kClockChanged), 4U);
  SetFaults("");
  CHECK(Eventually([&] { return notifications.Count(kClockChanged) == 8; }));
  CHECK_EQUAL(notifications.Last(kTemperatureAlarm).body.temperature_alarm.zone, kZoneGreen);
  CHECK_EQUAL(notifications.Last(kClockChanged).body.clock_change.current_hz, 400'000'000U);

  SetFaults("stall");
  CHECK_EQUAL(toy.Submit(), kSuccess);
  SetFaults("stall temperature=121");
  CHECK(Eventually([&] { return notifications.Count(kDataflowShutdown) == 1; }));
  CHECK(toy.WaitFor(toy.submitted));
  CHECK_EQUAL(toy.last_status, kStreamAbort);
  CHECK_EQUAL(toy.Submit(), kStreamAbort);
  SetFaults("");
  CHECK(Eventually([&] { return notifications.Last(kTemperatureAlarm).body.temperature_alarm.zone == kZoneGreen; }));
  CHECK_EQUAL(api().remove_notification_callback(device, kTemperatureAlarm), kSuccess);
  CHECK_EQUAL(api().release_vdevice(vdevice), kSuccess);
}

void ReportsRunTimeErrors() {
  VDevice vdevice = OpenVDevice();
  Device device;
  size_t count = 1;
  CHECK_EQUAL(api().get_physical_devices(vdevice, &device, &count), kSuccess);
  Notifications notifications;
  notifications.Listen(device);
  Toy toy(vdevice);
  SetFaults("runtime_error");
  CHECK(Eventually([&] { return notifications.Count(kContextSwitchRunTimeError) == 1; }));
  CHECK_EQUAL(toy.Submit(), kSuccess);
  CHECK(!toy.WaitFor(1, 30ms));
  SetFaults("");
  CHECK(toy.WaitFor(1));
  CHECK_EQUAL(api().release_vdevice(vdevice), kSuccess);
}

void ShutsDownSlowly() {
  VDevice vdevice = OpenVDevice();
  Toy toy(vdevice);
  SetFaults("slow_shutdown=80");
  auto start = std::chrono::steady_clock::now();
  CHECK_EQUAL(api().shutdown_network_group(toy.group), kSuccess);
  CHECK(Milliseconds(std::chrono::steady_clock::now() - start) >= 80);
  start = std::chrono::steady_clock::now();
  CHECK_EQUAL(api().release_vdevice(vdevice), kSuccess);
  CHECK(Milliseconds(std::chrono::steady_clock::now() - start) >= 80);
}

// Timing

void ModelsTime() {
  VDevice vdevice = OpenVDevice();
  Toy toy(vdevice);
  CHECK_EQUAL(toy.depth, 4U);
  auto start = std::chrono::steady_clock::now();
  for (int i = 0; i < 10; i++) toy.Run(1);
  const double each_ms = Milliseconds(std::chrono::steady_clock::now() - start) / 10;
  CHECK(each_ms >= 8 * 0.6);  // 8 ms in the middle, with jitter
  start = std::chrono::steady_clock::now();
  toy.Run(100);
  const double pipelined_ms = Milliseconds(std::chrono::steady_clock::now() - start) / 100;
  CHECK(pipelined_ms >= 1.9 && pipelined_ms < each_ms / 1.5);  // 500 frames/s at most, 4 deep in a latency of 8 ms
  CHECK_EQUAL(api().release_vdevice(vdevice), kSuccess);
}

struct Case {
  const char* name;
  void (*run)();
  std::vector<std::pair<const char*, const char*>> environment;
};

const char kVersion[] = "SOFTHAILORT_VERSION";
const char kDevices[] = "SOFTHAILORT_DEVICES";

const std::vector<Case> kCases = {
    {"tells its version and names every status", TellsItsVersion, {}},
    {"passes for 4.18 when asked to", TellsItsVersion418, {{kVersion, "4.18.0"}}},
    {"leaves a log file like the real library", LeavesALogFile, {}},
    {"leaves no log file when told where logs go", LeavesNoLogFileWhenTold, {}},
    {"answers like 4.23 without devices", AnswersWithoutDevices, {{kDevices, "0"}}},
    {"answers like 4.18 without devices", AnswersWithoutDevices418, {{kDevices, "0"}, {kVersion, "4.18.0"}}},
    {"describes its devices", DescribesItsDevices, {{kDevices, "2"}}},
    {"fills 96 bytes of extended information since 4.21", FillsExtendedInformation, {{kVersion, "4.21.0"}}},
    {"fills 92 bytes of extended information before 4.21", FillsExtendedInformation420, {{kVersion, "4.20.1"}}},
    {"gives a device to one vdevice", GivesADeviceToOneVDevice, {}},
    {"spreads over several devices", SpreadsOverDevices, {{kDevices, "2"}}},
    {"keeps a device from other processes until its holder dies", KeepsADeviceFromOtherProcesses, {}},
    {"shares a vdevice by group id", SharesAVDeviceByGroupId, {}},
    {"counts DMA mappings", CountsDmaMappings, {}},
    {"refuses broken HEFs like 4.23", RefusesBrokenHefs, {}},
    {"refuses broken HEFs like 4.20", RefusesBrokenHefs420, {{kVersion, "4.20.1"}}},
    {"refuses broken HEFs like 4.18", RefusesBrokenHefs418, {{kVersion, "4.18.0"}}},
    {"describes streams in the layout of 4.23", DescribesStreams, {}},
    {"describes streams in the layout of 4.18", DescribesStreams418, {{kVersion, "4.18.0"}}},
    {"knows scales per feature", KnowsScalesPerFeature, {}},
    {"survives any HEF", SurvivesAnyHef, {}},
    {"configures what it can run", ConfiguresWhatItCanRun, {}},
    {"configures on a Hailo-8L only what fits one", ConfiguresOn8L, {{"SOFTHAILORT_ARCH", "hailo8l"}}},
    {"refuses HEFs of other chips like 4.18", RefusesForeignHefs418, {{kVersion, "4.18.0"}}},
    {"limits different core ops to 32", LimitsDifferentCoreOps, {}},
    {"computes the network", ComputesTheNetwork, {}},
    {"computes the network portably", ComputesTheNetwork, {{"SOFTHAILORT_SIMD", "off"}}},
    {"computes the same bits with every instruction set", ComputesTheSameBitsInEveryWay, {}},
    {"checks transfers", ChecksTransfers, {}},
    {"keeps order in many groups", KeepsOrderInManyGroups, {}},
    {"keeps order in many groups with modelled time",
     KeepsOrderInManyGroups,
     {{"SOFTHAILORT_TIMING", "latency_us=150,fps=20000,pcie_us=5,completion_us=10,jitter=0.2"}}},
    {"serves groups in turn", ServesGroupsInTurn, {}},
    {"fills its queue and says so", FillsItsQueue, {}},
    {"honours the configured depth", HonoursTheConfiguredDepth, {{"SOFTHAILORT_TIMING", "depth=3"}}},
    {"takes frames from callbacks", ResubmitsFromCallbacks, {}},
    {"aborts on shutdown", AbortsOnShutdown, {}},
    {"aborts on release", AbortsOnRelease, {}},
    {"needs activation without a scheduler", NeedsActivationWithoutScheduler, {}},
    {"needs no activation under its scheduler", ActivatesUnderItsScheduler, {}},
    {"quantises as the real library", QuantisesAsHailoRt, {}},
    {"runs vstreams", RunsVStreams, {}},
    {"times vstreams out", TimesVStreamsOut, {}},
    {"excludes sync and async use of one stream", ExcludesSyncAndAsync, {}},
    {"runs vstreams without a scheduler", RunsVStreamsWithoutScheduler, {}},
    {"parses faults", ParsesFaults, {}},
    {"drops completions", DropsCompletions, {}},
    {"aborts what is in flight", AbortsWhatIsInFlight, {}},
    {"unplugs", Unplugs, {}},
    {"unplugs under vstreams", UnplugsUnderVStreams, {}},
    {"refuses vdevices and groups", RefusesVDevices, {}},
    {"times controls out like 4.23", TimesControlsOut, {}},
    {"times controls out like 4.18", TimesControlsOut418, {{kVersion, "4.18.0"}}},
    {"corrupts results and refuses submissions", CorruptsResults, {}},
    {"fails after some frames", FailsAfterSomeFrames, {}},
    {"takes faults from the environment", TakesFaultsFromTheEnvironment, {{"SOFTHAILORT_FAULT", "stall after=2"}}},
    {"ignores nonsense in the environment",
     IgnoresNonsenseInTheEnvironment,
     {{"SOFTHAILORT_FAULT", "stall nonsense"}, {kDevices, "many"}, {"SOFTHAILORT_TIMING", "depth=x"}}},
    {"takes faults from a file", TakesFaultsFromAFile, {{"SOFTHAILORT_CONTROL_FILE", "faults"}}},
    {"gets hot", GetsHot, {}},
    {"reports run-time errors", ReportsRunTimeErrors, {}},
    {"shuts down slowly", ShutsDownSlowly, {}},
    {"models time",
     ModelsTime,
     {{"SOFTHAILORT_TIMING", "latency_us=8000,fps=500,pcie_us=5,completion_us=30,jitter=0.1,depth=4"}}},
};

std::string Absolute(const char* path) {
  const std::unique_ptr<char, void (*)(void*)> resolved(realpath(path, nullptr), std::free);
  return resolved != nullptr ? resolved.get() : path;
}

int RunHere(const Case& test) {
  case_name = test.name;
  test.run();
  std::printf("ok %s\n", test.name);
  std::fflush(stdout);
  return 0;
}

/// Runs one case in a fresh process and a fresh folder, which also holds its devices' locks.
int RunApart(const char* program, const Case& test) {
  char folder[] = P_tmpdir "/soft-test-XXXXXX";
  if (mkdtemp(folder) == nullptr) return 1;
  const std::string program_path = Absolute(program);
  const pid_t pid = fork();
  if (pid == 0) {
    for (const auto& [name, value] : test.environment) setenv(name, value, 1);
    setenv("SOFTHAILORT_LOCK_DIR", folder, 1);
    setenv("HAILORT_LOGGER_PATH", "NONE", 0);
    if (chdir(folder) != 0) std::_Exit(1);
    execl(program_path.c_str(), program, library_path.c_str(), hef_path.c_str(), test.name, nullptr);
    std::_Exit(1);
  }
  int status = 0;
  waitpid(pid, &status, 0);
  const bool is_ok = WIFEXITED(status) && WEXITSTATUS(status) == 0;
  if (WIFSIGNALED(status)) std::printf("FAIL %s ended by signal %d\n", test.name, WTERMSIG(status));
  else if (!is_ok) std::printf("FAIL %s exit code %d\n", test.name, WEXITSTATUS(status));
  std::fflush(stdout);
  for (const char* file : {"hailort.log", "faults", "faults.new", "0000-01-00.0.lock", "0000-02-00.0.lock"}) {
    unlink((std::string(folder) + "/" + file).c_str());
  }
  rmdir(folder);
  return is_ok ? 0 : 1;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc == 2 && std::string(argv[1]) == "--list") {
    for (const Case& test : kCases) std::printf("%s\n", test.name);
    return 0;
  }
  if (argc < 3) {
    std::fprintf(stderr, "usage: soft_test LIBRARY HEF [CASE] | --list\n");
    return 2;
  }
  library_path = Absolute(argv[1]);
  hef_path = Absolute(argv[2]);
  int failures = 0;
  if (argc == 4) {
    for (const Case& test : kCases) {
      if (std::string(argv[3]) == test.name) return RunHere(test);
    }
    std::fprintf(stderr, "no case is named %s\n", argv[3]);
    return 2;
  }
  for (const Case& test : kCases) failures += RunApart(argv[0], test);
  return failures == 0 ? 0 : 1;
}
