#include "transform.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

namespace shim {
namespace {

/// Adding and taking it away again leaves a float32 below 2^22 rounded to an integer, half to even,
/// which vectorises on every CPU; rintf() does not.
constexpr float kRounder = 12582912.0f;  // 1.5 × 2^23

std::string Text(const hailo_abi::Shape& shape) {
  return std::to_string(shape.height) + "x" + std::to_string(shape.width) + "x" + std::to_string(shape.features);
}

Failure Refusal(const StreamLayout& layout, const std::string& expected) {
  return Failure(Cause::kHefRefused, "Cannot use stream " + layout.name + " of the HEF: it is " + Text(layout.shape) +
                                         " in order " + std::to_string(layout.hardware_order) + " with " +
                                         std::to_string(layout.bytes_per_value) + " bytes a value" +
                                         (layout.is_mux ? ", multiplexed" : "") + ", expected " + expected +
                                         ". HAILO_IO=vstream leaves unusual layouts to HailoRT");
}

/// Where HailoRT's hardware orders place the value of one row, column and feature. -1: an order unknown to us.
ptrdiff_t PositionOf(const StreamLayout& layout, size_t row, size_t column, size_t feature) {
  const hailo_abi::Shape& padded = layout.hardware_shape;
  switch (layout.hardware_order) {
    case hailo_abi::kOrderNhwc:
      return (row * padded.width + column) * padded.features + feature;
    case hailo_abi::kOrderNhcw:
      return (row * padded.features + feature) * padded.width + column;
    default:
      return -1;
  }
}

}  // namespace

InputTransform::InputTransform(const StreamLayout& layout, const std::optional<Normalisation>& normalisation) {
  const hailo_abi::Shape& shape = layout.shape;
  const bool is_window = !layout.is_mux && layout.bytes_per_value == 1 && shape.features == kChannels &&
                         uint64_t{shape.height} * shape.width == kTimesteps;
  for (size_t value = 0; value < kWindowValues; value++) {
    const size_t step = value / kChannels;
    const size_t channel = value % kChannels;
    const ptrdiff_t position = is_window ? PositionOf(layout, step / shape.width, step % shape.width, channel) : -1;
    if (position < 0 || static_cast<size_t>(position) >= layout.frame_bytes || position > UINT16_MAX) {
      throw Refusal(layout, "100 time steps of 9 channels, uint8, NHWC or NHCW");
    }
    position_[value] = static_cast<uint16_t>(position);
    mean_[value] = normalisation ? normalisation->mean[channel] : 0.0f;
    std_[value] = normalisation ? normalisation->std[channel] : 1.0f;

    const hailo_abi::QuantInfo& quantisation = layout.quantisation[layout.quantisation.size() == 1 ? 0 : channel];
    // HailoRT does not clip values that it need not scale.
    const bool is_identity = quantisation.scale == 1.0f && quantisation.zero_point == 0.0f;
    const float infinity = std::numeric_limits<float>::infinity();
    limit_min_[value] = is_identity ? -infinity : quantisation.limit_min;
    limit_max_[value] = is_identity ? infinity : quantisation.limit_max;
    scale_[value] = quantisation.scale;
    zero_point_[value] = quantisation.zero_point;
  }
}

void InputTransform::Run(const float* window, uint8_t* frame) const {
  std::array<int32_t, kWindowValues> quantised;
  for (size_t value = 0; value < kWindowValues; value++) {
    const float normalised = (window[value] - mean_[value]) / std_[value];
    const float floored = normalised < limit_min_[value] ? limit_min_[value] : normalised;
    const float clipped = floored > limit_max_[value] ? limit_max_[value] : floored;
    const float scaled = clipped / scale_[value] + zero_point_[value];
    // Written so that NaN fails both comparisons and becomes 0.
    const float positive = scaled > 0.0f ? scaled : 0.0f;
    const float in_range = positive < 255.0f ? positive : 255.0f;
    quantised[value] = static_cast<int32_t>((in_range + kRounder) - kRounder);
  }
  for (size_t value = 0; value < kWindowValues; value++) {
    frame[position_[value]] = static_cast<uint8_t>(quantised[value]);
  }
}

OutputTransform::OutputTransform(const StreamLayout& layout, size_t features)
    : bytes_per_value_(layout.bytes_per_value) {
  const hailo_abi::Shape& shape = layout.shape;
  const bool is_known = layout.hardware_order == hailo_abi::kOrderNc || layout.hardware_order == hailo_abi::kOrderNhwc;
  const bool is_vector = is_known && !layout.is_mux && shape.height == 1 && shape.width == 1 &&
                         shape.features == features && layout.bytes_per_value <= 2 &&
                         features * layout.bytes_per_value <= layout.frame_bytes;
  if (!is_vector) throw Refusal(layout, std::to_string(features) + " features, uint8 or uint16, NC or NHWC");
  for (size_t feature = 0; feature < features; feature++) {
    const hailo_abi::QuantInfo& quantisation = layout.quantisation[layout.quantisation.size() == 1 ? 0 : feature];
    zero_point_.push_back(quantisation.zero_point);
    scale_.push_back(quantisation.scale);
  }
}

void OutputTransform::Run(const uint8_t* frame, float* values) const {
  for (size_t feature = 0; feature < scale_.size(); feature++) {
    uint16_t wide = 0;
    if (bytes_per_value_ == 1) wide = frame[feature];
    else std::memcpy(&wide, frame + 2 * feature, sizeof wide);
    values[feature] = (static_cast<float>(wide) - zero_point_[feature]) * scale_[feature];
  }
}

void MotifHead::Run(const float* latent, float* logits) const {
  for (size_t motif = 0; motif < bias.size(); motif++) {
    const float* row = &weights[motif * kLatentDims];
    double sum = bias[motif];
    for (size_t dim = 0; dim < kLatentDims; dim++) sum += static_cast<double>(row[dim]) * latent[dim];
    logits[motif] = static_cast<float>(sum);
  }
}

void Softmax(float* values, size_t count) {
  const float largest = *std::max_element(values, values + count);
  double sum = 0;
  for (size_t value = 0; value < count; value++) sum += std::exp(static_cast<double>(values[value] - largest));
  for (size_t value = 0; value < count; value++) {
    values[value] = static_cast<float>(std::exp(static_cast<double>(values[value] - largest)) / sum);
  }
}

}  // namespace shim
