#include "hef.h"

#include <algorithm>
#include <cstring>
#include <fstream>
#include <iterator>

#include "checksum.h"

namespace soft {
namespace {

constexpr uint32_t kMagic = 0x01484546;  // "\x01HEF"
constexpr size_t kCommonHeaderBytes = 12;
constexpr size_t kShortestHeaderBytes = 28;
constexpr size_t kShortestXxh3Bytes = 241;  // see Xxh3()

// Entries of `extensions` that decide something here.
constexpr uint64_t kExtensionNetFlow = 13;
constexpr uint64_t kExtensionScalePerFeature = 25;
constexpr uint64_t kExtensionPeripheryInHailoRt = 26;

// Those that HailoRT does not know or no longer supports: 7 and 8 have numbers, but no reader.
bool IsKnownExtension(uint64_t type) {
  const uint64_t last = IsSince(21) ? 32 : IsSince(18) ? 30 : 28;
  return type <= last && type != 7 && type != 8;
}

uint64_t BigEndian(const uint8_t* from, size_t bytes) {
  uint64_t value = 0;
  for (size_t i = 0; i < bytes; i++) value = value << 8 | from[i];
  return value;
}

struct Bytes {
  const uint8_t* data = nullptr;
  size_t count = 0;
  std::string Text() const { return std::string(reinterpret_cast<const char*>(data), count); }
};

/// Reads the fields of one protobuf message in file order. `failed()` tells a broken message from its end.
class Message {
 public:
  explicit Message(Bytes bytes) : at_(bytes.data), end_(bytes.data + bytes.count) {}

  bool Next() {
    if (failed_ || at_ == end_) return false;
    const uint64_t key = Varint();
    field_ = static_cast<uint32_t>(key >> 3);
    number_ = 0;
    bytes_ = {};
    switch (key & 7) {
      case 0:
        number_ = Varint();
        break;
      case 1:
        Take(8);
        break;
      case 2:
        Take(Varint());
        break;
      case 5:
        Take(4);
        break;
      default:
        failed_ = true;
    }
    return !failed_;
  }

  bool failed() const { return failed_; }
  uint32_t field() const { return field_; }
  uint64_t number() const { return number_; }
  Bytes bytes() const { return bytes_; }
  float AsFloat() const { return As<float>(); }
  double AsDouble() const { return As<double>(); }

 private:
  uint64_t Varint() {
    uint64_t value = 0;
    for (int shift = 0; shift < 64; shift += 7) {
      if (at_ == end_) break;
      const uint8_t byte = *at_++;
      value |= uint64_t{static_cast<uint8_t>(byte & 0x7F)} << shift;
      if (byte < 0x80) return value;
    }
    failed_ = true;
    return 0;
  }

  void Take(uint64_t count) {
    if (failed_ || count > static_cast<uint64_t>(end_ - at_)) {
      failed_ = true;
      return;
    }
    bytes_ = {at_, static_cast<size_t>(count)};
    at_ += count;
  }

  template <typename T>
  T As() const {
    T value = 0;
    if (bytes_.count == sizeof value) std::memcpy(&value, bytes_.data, sizeof value);
    return value;
  }

  const uint8_t* at_;
  const uint8_t* end_;
  bool failed_ = false;
  uint32_t field_ = 0;
  uint64_t number_ = 0;
  Bytes bytes_;
};

/// Adds one value, or a packed run of them.
void AppendDoubles(const Message& message, std::vector<double>* values) {
  const Bytes bytes = message.bytes();
  for (size_t at = 0; at + 8 <= bytes.count; at += 8) {
    double value;
    std::memcpy(&value, bytes.data + at, 8);
    values->push_back(value);
  }
}

/// How a core op of the file names and counts its parts; the layers are still unread messages.
struct CoreOp {
  std::string name;
  double bottleneck_fps = 0;
  std::vector<std::string> networks;
  std::vector<Bytes> contexts;
};

bool ReadMetadata(Bytes bytes, CoreOp* core_op) {
  Message metadata(bytes);
  while (metadata.Next()) {
    if (metadata.field() == 1) core_op->name = metadata.bytes().Text();
    if (metadata.field() == 4) core_op->bottleneck_fps = metadata.AsDouble();
  }
  return !metadata.failed();
}

/// Core ops stand in `ops` or are the network group itself; what is read here has the same field numbers in both.
/// @param depth of core ops within core ops, so that no file makes us recurse for long
bool ReadCoreOp(Bytes bytes, CoreOp* core_op, int depth = 0) {
  if (depth > 2) return false;
  Message message(bytes);
  Bytes partial;
  while (message.Next()) {
    if (message.field() == 1 && !ReadMetadata(message.bytes(), core_op)) return false;
    if (message.field() == 3) core_op->contexts.push_back(message.bytes());
    if (message.field() == 6) core_op->networks.push_back(message.bytes().Text());
    if (message.field() == 7 && partial.data == nullptr) partial = message.bytes();
  }
  if (message.failed()) return false;
  if (!core_op->contexts.empty() || partial.data == nullptr) return true;

  // A HEF for several layouts of the chip holds one core op per layout: any of them has the same layers.
  Message layout(partial);
  while (layout.Next()) {
    if (layout.field() == 1) return ReadCoreOp(layout.bytes(), core_op, depth + 1);
  }
  return !layout.failed();
}

int32_t HardwareOrder(uint64_t format) {
  switch (format) {
    case 0:
      return kOrderNhwc;
    case 1:
      return kOrderNhcw;
    case 2:
      return kOrderNc;
    case 3:
      return 3;  // FCR
    case 4:
      return 7;  // BAYER RGB
    case 5:
      return 5;  // NHW
    case 6:
      return 21;  // NMS on the chip
    case 7:
      return 4;  // F8CR
    case 13:
      return kOrderNhwc;
    default:
      return kOrderAuto;
  }
}

int32_t UserOrder(int32_t hardware_order) {
  switch (hardware_order) {
    case kOrderNhcw:
      return kOrderNhwc;
    case 4:
      return kOrderNhwc;
    default:
      return hardware_order;
  }
}

bool ReadShape(Bytes bytes, Layer* layer) {
  uint64_t format = 0;
  Message base(bytes);
  while (base.Next()) {
    const auto number = static_cast<uint32_t>(base.number());
    switch (base.field()) {
      case 1:
        layer->shape.height = number;
        break;
      case 2:
        layer->hardware_shape.height = number;
        break;
      case 3:
        layer->shape.width = number;
        break;
      case 4:
        layer->hardware_shape.width = number;
        break;
      case 5:
        layer->shape.features = number;
        break;
      case 6:
        layer->hardware_shape.features = number;
        break;
      case 7:
        format = base.number();
        break;
      case 8:
        layer->index = static_cast<uint8_t>(number);
        break;
      case 12:
        layer->data_bytes = number;
        break;
    }
  }
  layer->hardware_order = HardwareOrder(format);
  layer->user_order = UserOrder(layer->hardware_order);

  // Products of three of these must not overflow, whatever the file says.
  const auto is_sane = [](const Shape& shape) {
    return shape.height <= 0xFFFF && shape.width <= 0xFFFF && shape.features <= 0xFFFF;
  };
  return !base.failed() && is_sane(layer->shape) && is_sane(layer->hardware_shape) && layer->data_bytes <= 4;
}

bool ReadQuantInfo(Bytes bytes, bool scale_per_feature, Layer* layer) {
  QuantInfo legacy{};
  std::vector<double> zero_points, scales;
  Message numeric(bytes);
  while (numeric.Next()) {
    switch (numeric.field()) {
      case 1:
        legacy.zero_point = numeric.AsFloat();
        break;
      case 2:
        legacy.scale = numeric.AsFloat();
        break;
      case 3:
        legacy.limit_min = numeric.AsFloat();
        break;
      case 4:
        legacy.limit_max = numeric.AsFloat();
        break;
      case 5:
        AppendDoubles(numeric, &zero_points);
        break;
      case 6:
        AppendDoubles(numeric, &scales);
        break;
    }
  }
  if (numeric.failed()) return false;
  layer->quant_info = legacy;
  if (!scale_per_feature) {
    layer->quant_infos = {legacy};
    return true;
  }
  if (zero_points.size() != layer->shape.features || scales.size() != layer->shape.features) return false;
  for (size_t feature = 0; feature < scales.size(); feature++) {
    QuantInfo info = legacy;
    info.zero_point = static_cast<float>(zero_points[feature]);
    info.scale = static_cast<float>(scales[feature]);
    layer->quant_infos.push_back(info);
  }
  if (layer->direction == kDeviceToHost) layer->quant_info = {};
  return true;
}

bool ReadLayer(Bytes bytes, bool scale_per_feature, Layer* layer) {
  Bytes numeric_info;
  Message message(bytes);
  while (message.Next()) {
    if (message.field() == 1) layer->name = message.bytes().Text();
    if (message.field() == 2 && !ReadShape(message.bytes(), layer)) return false;
    if (message.field() == 3) numeric_info = message.bytes();
  }
  return !message.failed() && layer->name.size() < kNameBytes && ReadQuantInfo(numeric_info, scale_per_feature, layer);
}

/// Appends the layer of one edge if the host sees it: those between contexts are the chip's own.
bool ReadEdge(Bytes bytes, bool scale_per_feature, HefNetworkGroup* group) {
  uint64_t direction = 0, type = 0, connection = 0, network = 0;
  Bytes info;
  Message edge(bytes);
  while (edge.Next()) {
    switch (edge.field()) {
      case 1:
        direction = edge.number();
        break;
      case 2:
        type = edge.number();
        break;
      case 3:
        info = edge.bytes();
        break;
      case 5: {
        Message context_switch(edge.bytes());
        while (context_switch.Next()) {
          if (context_switch.field() == 3) connection = context_switch.number();
        }
        if (context_switch.failed()) return false;
        break;
      }
      case 6:
        network = edge.number();
        break;
    }
  }
  if (edge.failed()) return false;
  if (type != 0 || connection != 0) return true;

  Layer layer{};
  layer.direction = direction == 0 ? kHostToDevice : kDeviceToHost;
  layer.network_name = group->networks[network < group->networks.size() ? network : 0];
  if (!ReadLayer(info, scale_per_feature, &layer)) return false;
  group->layers.push_back(std::move(layer));
  return true;
}

bool ReadContext(Bytes bytes, bool scale_per_feature, HefNetworkGroup* group) {
  Message context(bytes);
  while (context.Next()) {
    if (context.field() != 3) continue;
    Message metadata(context.bytes());
    while (metadata.Next()) {
      if (metadata.field() == 2 && !ReadEdge(metadata.bytes(), scale_per_feature, group)) return false;
    }
    if (metadata.failed()) return false;
  }
  return !context.failed();
}

bool ReadNetworkGroup(Bytes bytes, bool is_net_flow, bool scale_per_feature, HefNetworkGroup* group) {
  CoreOp core_op;
  if (is_net_flow) {
    Message message(bytes);
    while (message.Next()) {
      if (message.field() == 10) group->name = message.bytes().Text();
      if (message.field() != 8) continue;
      Message op(message.bytes());
      while (op.Next()) {
        if (op.field() == 4 && !ReadCoreOp(op.bytes(), &core_op)) return false;
      }
      if (op.failed()) return false;
    }
    if (message.failed()) return false;
  } else if (!ReadCoreOp(bytes, &core_op)) {
    return false;
  }
  if (group->name.empty()) group->name = core_op.name;
  if (group->name.size() >= kNameBytes) return false;

  group->is_multi_context = core_op.contexts.size() > 1;
  group->bottleneck_fps = core_op.bottleneck_fps;
  if (core_op.networks.empty()) core_op.networks.push_back(group->name);
  for (const std::string& network : core_op.networks) {
    if (network.size() >= kNameBytes) return false;
    group->networks.push_back(group->name + "/" + network);
  }
  for (const Bytes& context : core_op.contexts) {
    if (!ReadContext(context, scale_per_feature, group)) return false;
  }
  std::stable_partition(group->layers.begin(), group->layers.end(),
                        [](const Layer& layer) { return layer.direction == kHostToDevice; });
  return true;
}

Status ReadProto(Bytes bytes, HefContents* contents) {
  std::vector<uint64_t> extensions;
  std::vector<Bytes> groups;
  Message hef(bytes);
  while (hef.Next()) {
    switch (hef.field()) {
      case 1: {
        Message header(hef.bytes());
        while (header.Next()) {
          if (header.field() == 1) contents->architecture = header.number();
        }
        if (header.failed()) return HefCorrupted();
        break;
      }
      case 2:
        groups.push_back(hef.bytes());
        break;
      case 3:
        contents->mapping = hef.bytes().Text();
        break;
      case 5: {
        uint64_t type = 0;
        Message extension(hef.bytes());
        while (extension.Next()) {
          if (extension.field() == 1) type = extension.number();
        }
        if (extension.failed()) return HefCorrupted();
        extensions.push_back(type);
        break;
      }
    }
  }
  if (hef.failed()) return HefCorrupted();

  const auto has = [&](uint64_t type) {
    return std::find(extensions.begin(), extensions.end(), type) != extensions.end();
  };
  for (const Bytes& group : groups) {
    contents->network_groups.emplace_back();
    if (!ReadNetworkGroup(group, has(kExtensionNetFlow), has(kExtensionScalePerFeature),
                          &contents->network_groups.back())) {
      return kInvalidHef;
    }
  }
  if (!std::all_of(extensions.begin(), extensions.end(), IsKnownExtension) || !has(kExtensionPeripheryInHailoRt)) {
    return HefNotSupported();
  }
  return contents->network_groups.empty() ? kInvalidHef : kSuccess;
}

/// Checks the container and finds the protobuf in it.
Status ReadContainer(const uint8_t* data, size_t bytes, Bytes* proto) {
  if (data == nullptr || bytes < kShortestHeaderBytes) return HefCorrupted();
  if (BigEndian(data, 4) != kMagic) return HefNotSupported();
  const uint64_t version = BigEndian(data + 4, 4);
  const uint64_t proto_bytes = BigEndian(data + 8, 4);
  const uint8_t* distinct = data + kCommonHeaderBytes;

  const size_t header_bytes = version == 0                  ? 32
                              : version == 1                ? 28
                              : version == 2 && IsSince(20) ? 44
                              : version == 3 && IsSince(21) ? 56
                                                            : 0;
  if (header_bytes == 0) return HefVersionUnknown();
  if (bytes < header_bytes) return HefCorrupted();
  const uint8_t* body = data + header_bytes;
  const uint64_t body_bytes = bytes - header_bytes;
  if (proto_bytes > body_bytes) return HefCorrupted();

  bool is_whole = false;
  switch (version) {
    case 0: {
      const auto digest = Md5(body, body_bytes);
      is_whole = proto_bytes == body_bytes && std::memcmp(digest.data(), distinct + 4, digest.size()) == 0;
      break;
    }
    case 1:
      is_whole =
          BigEndian(distinct + 4, 8) == body_bytes - proto_bytes && Crc32(body, body_bytes) == BigEndian(distinct, 4);
      break;
    default: {
      const uint64_t weights_bytes = BigEndian(distinct + 8, 8);
      const uint64_t additional_bytes = version == 3 ? BigEndian(distinct + 20, 8) : 0;
      is_whole = weights_bytes <= body_bytes && additional_bytes <= body_bytes &&
                 proto_bytes + weights_bytes + additional_bytes == body_bytes && body_bytes >= kShortestXxh3Bytes &&
                 Xxh3(body, body_bytes) == BigEndian(distinct, 8);
    }
  }
  if (!is_whole) return HefCorrupted();
  *proto = {body, static_cast<size_t>(proto_bytes)};
  return kSuccess;
}

}  // namespace

const HefNetworkGroup* HefContents::Find(const char* name) const {
  if (name == nullptr || *name == '\0') return network_groups.empty() ? nullptr : &network_groups[0];
  for (const HefNetworkGroup& group : network_groups) {
    if (group.name == name) return &group;
    // A network's own name means its group, too.
    if (std::find(group.networks.begin(), group.networks.end(), name) != group.networks.end()) return &group;
  }
  return nullptr;
}

Status ReadHefFile(const char* path, HefContents* contents) {
  std::ifstream file(path, std::ios::binary);
  if (!file) return kOpenFileFailure;
  const std::vector<char> data{std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
  return ReadHefBuffer(reinterpret_cast<const uint8_t*>(data.data()), data.size(), contents);
}

Status ReadHefBuffer(const uint8_t* data, size_t bytes, HefContents* contents) {
  Bytes proto;
  const Status status = ReadContainer(data, bytes, &proto);
  if (status != kSuccess) return status;
  contents->digest = Md5(data, bytes);
  return ReadProto(proto, contents);
}

}  // namespace soft
