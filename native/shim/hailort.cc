#include "hailort.h"

#include <dlfcn.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <memory>
#include <mutex>

namespace shim {
namespace {

using hailo_abi::Status;

/// The SONAME of libhailort is its full version, so that each release has to be asked for by name.
constexpr const char* kLibraryNames[] = {
    "libhailort.so.4.23.0", "libhailort.so.4.22.0", "libhailort.so.4.21.0",
    "libhailort.so.4.20.1", "libhailort.so.4.20.0", "libhailort.so.4.19.0",
    "libhailort.so.4.18.0", "libhailort.so.4.17.1", "libhailort.so",
};
constexpr char kRemedy[] =
    "Install HailoRT 4.17.1 to 4.23 for Hailo-8 (on Raspberry Pi OS: apt install hailo-all), or set "
    "HAILORT_LIB to its libhailort.so";

template <typename Function>
Function Find(void* handle, const char* name) {
  return reinterpret_cast<Function>(dlsym(handle, name));
}

/// Resolves what we call. @return the name of the first function that we cannot do without and that is missing
const char* Resolve(void* handle, hailo_abi::Functions* functions) {
#define FIND(name, result, parameters) functions->name = Find<decltype(functions->name)>(handle, "hailo_" #name);
#define REQUIRE(name, result, parameters) \
  FIND(name, result, parameters)          \
  if (functions->name == nullptr) return "hailo_" #name;
  HAILORT_OPTIONAL_FUNCTIONS(FIND)
  HAILORT_REQUIRED_FUNCTIONS(REQUIRE)
#undef REQUIRE
#undef FIND
  return nullptr;
}

/// @param opened what it was opened as. @return null, with the reason, when there is no such library
void* OpenLibrary(const std::string& path, std::string* opened, std::string* reason) {
  const std::vector<const char*> names =
      path.empty() ? std::vector<const char*>(std::begin(kLibraryNames), std::end(kLibraryNames))
                   : std::vector<const char*>{path.c_str()};
  for (const char* name : names) {
    void* handle = dlopen(name, RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
    if (handle != nullptr) {
      *opened = name;
      return handle;
    }
    *reason = dlerror();
  }
  return nullptr;
}

std::string Text(const hailo_abi::Version& version) {
  return std::to_string(version.major) + "." + std::to_string(version.minor) + "." + std::to_string(version.revision);
}

bool IsSupported(const hailo_abi::Version& version) {
  if (version.major != 4 || version.minor < 17 || version.minor > 23) return false;
  return version.minor > 17 || version.revision >= 1;
}

/// A fixed-length field need not end in a zero.
template <size_t kRoom>
std::string TextOf(const char (&field)[kRoom], size_t length = kRoom) {
  return std::string(field, strnlen(field, std::min(length, kRoom)));
}

bool IsPrintable(const std::string& text) {
  return !text.empty() && std::all_of(text.begin(), text.end(), [](char c) { return c >= ' ' && c <= '~'; });
}

const char* NameOf(int32_t architecture) {
  switch (architecture) {
    case hailo_abi::kHailo8A0:
      return "hailo8a0";
    case hailo_abi::kHailo8:
      return "hailo8";
    case hailo_abi::kHailo8L:
      return "hailo8l";
    case hailo_abi::kHailo15H:
      return "hailo15h";
    case hailo_abi::kHailo15L:
      return "hailo15l";
    case hailo_abi::kHailo15M:
      return "hailo15m";
    case hailo_abi::kHailo10H:
      return "hailo10h";
    default:
      return "unknown";
  }
}

/// Empty where the driver is not loaded or does not tell.
std::string DriverVersion() {
  std::ifstream file("/sys/module/hailo_pci/version");
  std::string version;
  file >> version;
  return version;
}

}  // namespace

Cause CauseOf(Status status) {
  switch (status) {
    case hailo_abi::kTimeout:
    case hailo_abi::kDriverTimeout:
    case hailo_abi::kFirmwareControlFailure:
      return Cause::kTimeout;
    case hailo_abi::kStreamAbort:
      return Cause::kAborted;
    case hailo_abi::kDriverNotInstalled:
    case hailo_abi::kOutOfPhysicalDevices:
      return Cause::kNoDevice;
    case hailo_abi::kDeviceInUse:
      return Cause::kDeviceInUse;
    case hailo_abi::kUnsupportedFirmware:
    case hailo_abi::kInvalidDriverVersion:
    case hailo_abi::kInvalidServiceVersion:
      return Cause::kVersionMismatch;
    case hailo_abi::kInvalidHef:
    case hailo_abi::kHefFileCorrupted:
    case hailo_abi::kHefNotSupported:
    case hailo_abi::kHefNotCompatibleWithDevice:
      return Cause::kHefRefused;
    case hailo_abi::kDriverOperationFailed:
    case hailo_abi::kCommunicationClosed:
    case hailo_abi::kRpcFailed:
    case hailo_abi::kDriverInvalidResponse:
    case hailo_abi::kDriverInvalidIoctl:
    case hailo_abi::kDriverInterrupted:
    case hailo_abi::kDriverWaitCanceled:
      return Cause::kDeviceLost;
    default:
      return Cause::kOpenFailed;
  }
}

const Library& Library::Open(const std::string& path) {
  static std::mutex mutex;
  static std::string opened_as;
  static const Library* library = nullptr;  // never destroyed, as the library is never closed

  const std::lock_guard<std::mutex> lock(mutex);
  if (library != nullptr) {
    if (path == opened_as) return *library;
    throw Failure(Cause::kLibraryUnsupported, "This process has opened " + library->path + " already and cannot open " +
                                                  (path.empty() ? "another" : path) + " beside it");
  }

  // Without it the library leaves a hailort.log in the working directory. The C environment, not
  // process.env: what a worker writes there never gets here.
  setenv("HAILORT_LOGGER_PATH", "NONE", /*overwrite=*/0);

  std::string name, reason;
  void* handle = OpenLibrary(path, &name, &reason);
  if (handle == nullptr) {
    throw Failure(Cause::kLibraryMissing, "Cannot open libhailort: " + reason + ". " + kRemedy);
  }
  hailo_abi::Version version{};
  const auto get_version =
      Find<decltype(hailo_abi::Functions::get_library_version)>(handle, "hailo_get_library_version");
  if (get_version == nullptr || get_version(&version) != hailo_abi::kSuccess) {
    throw Failure(Cause::kLibraryUnsupported, name + " does not tell its version. " + kRemedy);
  }
  if (!IsSupported(version)) {
    throw Failure(Cause::kLibraryUnsupported,
                  name + " is HailoRT " + Text(version) + ", expected 4.17.1 to 4.23. " + kRemedy);
  }
  hailo_abi::Functions functions;
  if (const char* missing = Resolve(handle, &functions)) {
    throw Failure(Cause::kLibraryUnsupported,
                  name + ", HailoRT " + Text(version) + ", has no " + missing + ". " + kRemedy);
  }
  Dl_info where{};
  if (dladdr(reinterpret_cast<void*>(functions.create_vdevice), &where) != 0) name = where.dli_fname;
  library = new Library(functions, name, version);
  opened_as = path;
  return *library;
}

std::string Library::VersionText() const { return Text(version); }

std::string Library::Describe(Status status) const {
  const char* name = call.get_status_message(status);  // null for statuses of later releases
  return std::string(name == nullptr ? "status" : name) + " (" + std::to_string(status) + ")";
}

void Library::Check(Status status, const char* action) const {
  if (status == hailo_abi::kSuccess) return;
  std::string message = std::string("Cannot ") + action + ": " + Describe(status);
  const Cause cause = CauseOf(status);
  if (cause == Cause::kVersionMismatch) {
    const std::string driver = DriverVersion();
    message += ". The driver" + (driver.empty() ? "" : " " + driver) + ", the firmware and libhailort " + VersionText() +
               " must be of one version: " + (driver.empty() ? "`dmesg | grep hailo` tells the driver's; " : "") +
               "install matching packages and reboot, or give a container the library of its host";
  }
  throw Failure(cause, message);
}

std::vector<std::string> Library::ScanDevices() const {
  hailo_abi::DeviceId ids[32];
  size_t count = std::size(ids);
  if (call.scan_devices(nullptr, ids, &count) != hailo_abi::kSuccess) return {};
  std::vector<std::string> found;
  for (size_t device = 0; device < count; device++) found.push_back(TextOf(ids[device].id));
  return found;
}

DeviceDescription Library::Describe(hailo_abi::Device device) const {
  hailo_abi::DeviceId id{};
  Check(call.get_device_id(device, &id), "read the device's id");
  hailo_abi::DeviceIdentity identity{};
  Check(call.identify(device, &identity), "identify the device");
  // Some boards do not answer this one: the clock then stays unknown.
  hailo_abi::ExtendedDeviceInformation information{};
  const bool is_extended = call.get_extended_device_information != nullptr &&
                           call.get_extended_device_information(device, &information) == hailo_abi::kSuccess;
  return {
      TextOf(id.id),
      TextOf(identity.board_name, identity.board_name_length),
      TextOf(identity.product_name, identity.product_name_length),
      TextOf(identity.serial_number, identity.serial_number_length),
      Text(identity.firmware_version),
      NameOf(identity.architecture),
      is_extended ? information.neural_network_core_clock_hz : 0,
  };
}

template <typename Info>
StreamLayout Library::Read(const Info& info, int32_t direction, size_t frame_bytes) const {
  StreamLayout layout{
      TextOf(info.name),        info.shape,  info.hardware_shape, info.format.order,
      info.hardware_data_bytes, frame_bytes, info.is_mux,         {},
  };
  // In the wrong layout, none of these would hold.
  const bool is_sound =
      IsPrintable(layout.name) && info.direction == direction && info.hardware_frame_bytes == frame_bytes &&
      (info.hardware_data_bytes == 1 || info.hardware_data_bytes == 2 || info.hardware_data_bytes == 4);
  if (is_sound) return layout;
  throw Failure(Cause::kLibraryUnsupported, "Cannot read the stream infos of libhailort " + VersionText() +
                                                ": they make no sense in the layout known for this release");
}

template <typename Stream, typename GetInfo>
StreamLayout Library::ReadInfo(Stream stream, GetInfo get_info, int32_t direction, size_t frame_bytes) const {
  // Twice the room, so that a library with a layout unknown to us writes into no other memory.
  if (Before420()) {
    hailo_abi::StreamInfoBefore420 infos[2]{};
    Check(get_info(stream, infos), "read a stream's info");
    return Read(infos[0], direction, frame_bytes);
  }
  hailo_abi::StreamInfo infos[2]{};
  Check(get_info(stream, infos), "read a stream's info");
  return Read(infos[0], direction, frame_bytes);
}

namespace {

/// One quantisation for all features, or one for each. The info's own is invalid when they differ.
template <typename Stream, typename GetQuantInfos>
std::vector<hailo_abi::QuantInfo> QuantisationOf(const Library& library, Stream stream, uint32_t features,
                                                 GetQuantInfos get_quant_infos) {
  std::vector<hailo_abi::QuantInfo> infos(std::max(features, 1u));
  size_t count = infos.size();
  library.Check(get_quant_infos(stream, infos.data(), &count), "read a stream's quantisation");
  infos.resize(std::min(count, infos.size()));
  const bool is_sound = (infos.size() == 1 || infos.size() == features) &&
                        std::all_of(infos.begin(), infos.end(), [](const hailo_abi::QuantInfo& info) {
                          return std::isfinite(info.scale) && info.scale > 0 && std::isfinite(info.zero_point);
                        });
  if (is_sound) return infos;
  throw Failure(Cause::kHefRefused, "Cannot use the HEF: a stream of " + std::to_string(features) + " features has " +
                                        std::to_string(infos.size()) +
                                        " quantisations, or one with a scale that is not above 0");
}

}  // namespace

StreamLayout Library::LayoutOf(hailo_abi::InputStream stream) const {
  StreamLayout layout =
      ReadInfo(stream, call.get_input_stream_info, hailo_abi::kHostToDevice, call.get_input_stream_frame_size(stream));
  layout.quantisation = QuantisationOf(*this, stream, layout.shape.features, call.get_input_stream_quant_infos);
  return layout;
}

StreamLayout Library::LayoutOf(hailo_abi::OutputStream stream) const {
  StreamLayout layout = ReadInfo(stream, call.get_output_stream_info, hailo_abi::kDeviceToHost,
                                 call.get_output_stream_frame_size(stream));
  layout.quantisation = QuantisationOf(*this, stream, layout.shape.features, call.get_output_stream_quant_infos);
  return layout;
}

}  // namespace shim
