// HEF files: the container, and of the protobuf inside it what HailoRT tells about a network.
#pragma once

#include <array>
#include <string>
#include <vector>

#include "release.h"

namespace soft {

/// One input or output of a network, as HailoRT's stream and vstream infos describe it.
struct Layer {
  std::string name;          // "net/layer"
  std::string network_name;  // "network group/net"
  Direction direction;
  Shape shape;
  Shape hardware_shape;    // with the padding that the hardware wants
  int32_t hardware_order;  // of the bytes on the stream
  int32_t user_order;      // of the values in a vstream
  uint32_t data_bytes;     // per value on the stream: 1 or 2
  uint8_t index;
  QuantInfo quant_info;                // all 0 when features differ
  std::vector<QuantInfo> quant_infos;  // one, or one per feature

  size_t FrameBytes() const {
    return size_t{hardware_shape.height} * hardware_shape.width * hardware_shape.features * data_bytes;
  }
  size_t ValueCount() const { return size_t{shape.height} * shape.width * shape.features; }
  int32_t HardwareType() const { return data_bytes == 2 ? kTypeUint16 : kTypeUint8; }
};

struct HefNetworkGroup {
  std::string name;
  std::vector<std::string> networks;  // "network group/net"
  bool is_multi_context = false;
  double bottleneck_fps = 0;
  std::vector<Layer> layers;  // inputs, then outputs
};

/// What a HEF says. Nothing of it refers to the file or buffer it came from.
struct HefContents {
  uint64_t architecture = 0;  // 0 Hailo-8, 1 8P, 2 8R, 3 8L: the compiler's numbers
  std::vector<HefNetworkGroup> network_groups;
  std::string mapping;               // where a HEF for this software device carries its network
  std::array<uint8_t, 16> digest{};  // tells equal files from others

  /// The group of that name; the first one when `name` is null or empty; null when there is none.
  const HefNetworkGroup* Find(const char* name) const;
};

Status ReadHefFile(const char* path, HefContents* contents);
Status ReadHefBuffer(const uint8_t* data, size_t bytes, HefContents* contents);

}  // namespace soft
