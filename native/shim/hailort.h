// libhailort, opened at run time. The only place that knows which of its two layouts applies.
#pragma once

#include <string>
#include <vector>

#include "../abi.h"
#include "failure.h"

namespace shim {

/// One input or output of a configured network group, as the hardware sees it.
struct StreamLayout {
  std::string name;
  hailo_abi::Shape shape;
  /// With the padding that the hardware wants.
  hailo_abi::Shape hardware_shape;
  /// A hailo_abi::FormatOrder, or one that we do not know.
  int32_t hardware_order;
  /// 1: uint8, 2: uint16.
  uint32_t bytes_per_value;
  size_t frame_bytes;
  bool is_mux;
  /// One for all features, or one for each.
  std::vector<hailo_abi::QuantInfo> quantisation;
};

struct DeviceDescription {
  std::string id, board, product, serial, firmware;
  /// "hailo8", "hailo8l" or another family's name.
  std::string architecture;
  /// 0 when the device does not tell.
  uint32_t clock_hz;
};

class Library {
 public:
  /// Opens libhailort, once per process: later calls get the same. Never closed, because its threads
  /// and static objects do not survive that.
  /// @param path a file, or empty to look for each supported release by its own name
  /// @throws Failure kLibraryMissing, kLibraryUnsupported
  static const Library& Open(const std::string& path);

  /// The functions whose arguments have one layout in all releases.
  const hailo_abi::Functions call;
  const std::string path;
  const hailo_abi::Version version;

  std::string VersionText() const;
  /// "HAILO_TIMEOUT (4)".
  std::string Describe(hailo_abi::Status status) const;
  /// @throws Failure with what the status means and `action`, as in "Cannot <action>: HAILO_TIMEOUT (4)"
  void Check(hailo_abi::Status status, const char* action) const;

  std::vector<std::string> ScanDevices() const;
  /// @throws Failure
  DeviceDescription Describe(hailo_abi::Device device) const;

  /// @throws Failure, also kLibraryUnsupported when what comes back makes no sense in the layout chosen
  StreamLayout LayoutOf(hailo_abi::InputStream stream) const;
  StreamLayout LayoutOf(hailo_abi::OutputStream stream) const;

 private:
  Library(const hailo_abi::Functions& call, const std::string& path, const hailo_abi::Version& version)
      : call(call), path(path), version(version) {}

  bool Before420() const { return version.minor < 20; }
  template <typename Info>
  StreamLayout Read(const Info& info, int32_t direction, size_t frame_bytes) const;
  template <typename Stream, typename GetInfo>
  StreamLayout ReadInfo(Stream stream, GetInfo get_info, int32_t direction, size_t frame_bytes) const;
};

}  // namespace shim
