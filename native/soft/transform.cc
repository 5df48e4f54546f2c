#include "transform.h"

#include <cmath>
#include <cstring>

namespace soft {
namespace {

size_t TypeBytes(int32_t type) { return type == kTypeFloat32 ? 4 : type == kTypeUint16 ? 2 : 1; }

/// HailoRT's rounding: half to even. Values outside 0..255 wrap, which only an identity scale lets happen.
uint8_t QuantiseValue(float value, const QuantInfo& info) {
  if (std::isnan(value)) return 0;
  if (info.scale == 1 && info.zero_point == 0) {
    if (std::fabs(value) > 1e18F) return 0;
    return static_cast<uint8_t>(static_cast<int64_t>(std::rint(value)));
  }
  const float clipped = std::fmin(std::fmax(value, info.limit_min), info.limit_max);
  return static_cast<uint8_t>(static_cast<int64_t>(std::rint(clipped / info.scale + info.zero_point)));
}

}  // namespace

Status Transform::Make(const Layer& layer, const Format& user_format, Transform* transform) {
  transform->layer_ = layer;
  Format& format = transform->user_format_ = user_format;
  if (format.type == kTypeAuto) format.type = layer.HardwareType();
  if (format.order == kOrderAuto) format.order = layer.user_order;
  if (layer.data_bytes != 1) return kNotSupported;
  if (format.type != kTypeUint8 && format.type != kTypeFloat32) return kInvalidArgument;

  const bool is_image =
      layer.hardware_order == kOrderNhcw || layer.hardware_order == kOrderNhwc || layer.hardware_order == 3;
  const bool is_known = layer.hardware_order == kOrderNc
                            ? format.order == kOrderNc
                            : is_image && (format.order == kOrderNhwc || format.order == layer.user_order);
  if (!is_known) return kNotSupported;
  for (const QuantInfo& info : layer.quant_infos) {
    // A scale of 0 marks what is not there; dividing by it would answer with made-up data.
    if (format.type == kTypeFloat32 && !(info.scale > 0)) return kInvalidArgument;
  }
  return layer.quant_infos.empty() ? kInvalidArgument : kSuccess;
}

size_t Transform::UserBytes() const { return layer_.ValueCount() * TypeBytes(user_format_.type); }

void Transform::Apply(const void* source, void* target) const {
  if (layer_.direction == kHostToDevice) {
    Quantise(source, static_cast<uint8_t*>(target));
  } else {
    Dequantise(static_cast<const uint8_t*>(source), target);
  }
}

namespace {

/// Calls `visit(user index, hardware index, feature)` for every value of a frame.
template <typename Visit>
void ForEachValue(const Layer& layer, Visit visit) {
  const Shape& shape = layer.shape;
  const Shape& hardware = layer.hardware_shape;
  const bool is_nhcw = layer.hardware_order == kOrderNhcw;
  const size_t column_step = is_nhcw ? 1 : hardware.features;
  const size_t feature_step = is_nhcw ? hardware.width : 1;
  const size_t row_step = size_t{hardware.width} * hardware.features;
  size_t user = 0;
  for (size_t row = 0; row < shape.height; row++) {
    for (size_t column = 0; column < shape.width; column++) {
      for (size_t feature = 0; feature < shape.features; feature++) {
        visit(user++, row * row_step + column * column_step + feature * feature_step, feature);
      }
    }
  }
}

}  // namespace

void Transform::Quantise(const void* user, uint8_t* hardware) const {
  std::memset(hardware, 0, HardwareBytes());
  const auto* const bytes = static_cast<const uint8_t*>(user);
  const QuantInfo info = layer_.quant_infos[0];  // inputs have one scale
  ForEachValue(layer_, [&](size_t from, size_t to, size_t) {
    if (user_format_.type == kTypeUint8) {
      hardware[to] = bytes[from];
    } else {
      // The user's buffer may be aligned to nothing.
      float value;
      std::memcpy(&value, bytes + 4 * from, sizeof value);
      hardware[to] = QuantiseValue(value, info);
    }
  });
}

void Transform::Dequantise(const uint8_t* hardware, void* user) const {
  auto* const bytes = static_cast<uint8_t*>(user);
  const bool is_per_feature = layer_.quant_infos.size() > 1;
  ForEachValue(layer_, [&](size_t to, size_t from, size_t feature) {
    if (user_format_.type == kTypeUint8) {
      bytes[to] = hardware[from];
    } else {
      const QuantInfo& info = layer_.quant_infos[is_per_feature ? feature : 0];
      const float value = (hardware[from] - info.zero_point) * info.scale;
      std::memcpy(bytes + 4 * to, &value, sizeof value);
    }
  });
}

}  // namespace soft
