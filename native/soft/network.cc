#include "network.h"

#include <algorithm>
#include <cmath>
#include <cstring>

namespace soft {
namespace {

constexpr char kPayloadMagic[] = "SOFTNET1";
constexpr size_t kMagicBytes = 8;

// Bounds that no network of ours comes near; products of any three stay far below 2^63.
constexpr uint32_t kMostTensors = 4096;
constexpr uint32_t kMostChannels = 4096;
constexpr uint32_t kMostLength = 1 << 16;
constexpr uint32_t kMostTaps = 256;
constexpr uint64_t kMostActivations = 1 << 26;

// What the kernels rely on, see Product.
constexpr int64_t kLargestAccumulator = int64_t{1} << 29;
constexpr double kLargestProduct = 1 << 30;

size_t RoundUp(size_t value, size_t step) { return (value + step - 1) / step * step; }

/// Takes little-endian values from the payload's front. After the first failure everything is 0.
class Payload {
 public:
  explicit Payload(const std::string& bytes) : at_(bytes.data()), left_(bytes.size()) {}

  template <typename T>
  T Take() {
    T value{};
    Copy(&value, sizeof value);
    return value;
  }

  template <typename T>
  std::vector<T> TakeMany(size_t count) {
    if (count > left_ / sizeof(T)) {
      failed_ = true;
      return {};
    }
    std::vector<T> values(count);
    Copy(values.data(), count * sizeof(T));
    return values;
  }

  bool failed() const { return failed_; }
  bool is_at_end() const { return left_ == 0; }

 private:
  void Copy(void* to, size_t bytes) {
    if (failed_ || bytes > left_) {
      failed_ = true;
      return;
    }
    if (bytes > 0) std::memcpy(to, at_, bytes);
    at_ += bytes;
    left_ -= bytes;
  }

  const char* at_;
  size_t left_;
  bool failed_ = false;
};

bool IsScale(float scale) { return std::isfinite(scale) && scale > 0; }
bool IsMultiplier(double multiplier) { return std::isfinite(multiplier) && std::fabs(multiplier) < 1e6; }

/// What the bytes of an addition are multiplied with. Sums of such products are exact in double: from 2^-35 to 2^18.
bool IsRatio(double multiplier) {
  return multiplier == static_cast<float>(multiplier) && multiplier >= 0x1p-12 && multiplier < 0x1p8;
}

uint8_t QuantiseByte(double value) { return static_cast<uint8_t>(std::clamp(value, 0.0, 255.0)); }

}  // namespace

bool Network::IsIn(const std::string& mapping) { return mapping.compare(0, kMagicBytes, kPayloadMagic) == 0; }

std::unique_ptr<Network> Network::Load(const std::string& mapping, const HefNetworkGroup& group,
                                       const Kernels& kernels) {
  std::unique_ptr<Network> network(new Network);
  if (!network->Read(mapping, kernels) || !network->Bind(group)) return nullptr;
  network->LayOut();
  return network->activations_ <= kMostActivations ? std::move(network) : nullptr;
}

bool Network::Read(const std::string& mapping, const Kernels& kernels) {
  kernels_ = &kernels;
  if (!IsIn(mapping)) return false;
  Payload payload(mapping);
  payload.Take<uint64_t>();
  const auto tensor_count = payload.Take<uint32_t>();
  const auto layer_count = payload.Take<uint32_t>();
  const auto output_count = payload.Take<uint32_t>();
  input_tensor_ = payload.Take<uint32_t>();
  if (tensor_count > kMostTensors || layer_count > kMostTensors || output_count > kMostTensors) return false;
  if (input_tensor_ >= tensor_count) return false;

  for (uint32_t i = 0; i < tensor_count; i++) {
    Tensor tensor{};
    tensor.channels = payload.Take<uint32_t>();
    tensor.length = payload.Take<uint32_t>();
    tensor.zero_point = payload.Take<int32_t>();
    tensor.scale = payload.Take<float>();
    if (tensor.channels == 0 || tensor.channels > kMostChannels || tensor.length == 0 || tensor.length > kMostLength)
      return false;
    if (tensor.zero_point < 0 || tensor.zero_point > 255 || !IsScale(tensor.scale)) return false;
    tensor.row = RoundUp(tensor.channels, kLanes);
    tensors_.push_back(tensor);
  }
  for (uint32_t i = 0; i < output_count; i++) {
    const auto name = payload.TakeMany<char>(kNameBytes);
    NetworkOutput output;
    output.stream.assign(name.data(), strnlen(name.data(), name.size()));
    output.tensor = payload.Take<uint32_t>();
    output.scale = payload.Take<float>();
    output.zero_point = payload.Take<float>();
    if (payload.failed() || output.tensor >= tensor_count || !IsScale(output.scale)) return false;
    if (!(output.zero_point >= 0 && output.zero_point <= 255)) return false;
    outputs_.push_back(output);
  }

  // A layer may read only what a layer before it wrote.
  std::vector<bool> is_known(tensor_count);
  is_known[input_tensor_] = true;
  for (uint32_t i = 0; i < layer_count; i++) {
    NetworkLayer layer{};
    const auto operation = payload.Take<uint32_t>();
    layer.operation = static_cast<Operation>(operation);
    layer.input_a = payload.Take<uint32_t>();
    layer.input_b = payload.Take<uint32_t>();
    layer.output = payload.Take<uint32_t>();
    layer.relu = payload.Take<uint32_t>() != 0;
    const bool is_float = payload.Take<uint32_t>() != 0;
    layer.taps = payload.Take<uint32_t>();
    layer.stride = payload.Take<uint32_t>();
    layer.dilation = payload.Take<uint32_t>();
    layer.pad_left = payload.Take<uint32_t>();
    const auto pad_right = payload.Take<uint32_t>();
    layer.multiplier_a = payload.Take<double>();
    layer.multiplier_b = payload.Take<double>();
    const auto weight_bytes = payload.Take<uint32_t>();
    const auto weights = payload.TakeMany<int8_t>(weight_bytes);
    payload.TakeMany<int8_t>((4 - weight_bytes % 4) % 4);
    const auto channel_count = payload.Take<uint32_t>();
    const auto bias = payload.TakeMany<int32_t>(channel_count);
    const auto multiplier = payload.TakeMany<float>(channel_count);
    if (payload.failed() || operation < 1 || operation > 4) return false;
    if (layer.input_a >= tensor_count || layer.output >= tensor_count) return false;
    if (!is_known[layer.input_a] || is_known[layer.output]) return false;
    Tensor& input = tensors_[layer.input_a];
    Tensor& output = tensors_[layer.output];
    if (input.is_float || (is_float && layer.operation != Operation::kMatrix)) return false;
    if (!IsMultiplier(layer.multiplier_a) || !IsMultiplier(layer.multiplier_b)) return false;

    switch (layer.operation) {
      case Operation::kMatrix:
        layer.taps = layer.stride = layer.dilation = 1;
        layer.pad_left = 0;
        if (pad_right != 0 || input.length != 1) return false;
        [[fallthrough]];
      case Operation::kConvolution: {
        if (layer.taps == 0 || layer.taps > kMostTaps || layer.stride == 0 || layer.stride > kMostLength) return false;
        if (layer.dilation == 0 || layer.dilation > kMostLength || layer.pad_left > kMostLength ||
            pad_right > kMostLength)
          return false;
        const int64_t reach = int64_t{layer.taps - 1} * layer.dilation;
        const int64_t room = int64_t{input.length} + layer.pad_left + pad_right - reach - 1;
        if (room < 0 || room / layer.stride + 1 != output.length) return false;
        if (weights.size() != size_t{output.channels} * input.channels * layer.taps || channel_count != output.channels)
          return false;

        const size_t channels = RoundUp(input.channels, kernels.channel_step);
        if (!is_float) patch_values_ = std::max(patch_values_, kernels.patches * layer.taps * channels);
        layer.weights.resize(is_float ? weights.size() : output.row * layer.taps * channels * kernels.weight_bytes);
        layer.bias.resize(output.row);
        layer.multiplier.resize(output.row);
        for (size_t out = 0; out < output.channels; out++) {
          if (!IsMultiplier(multiplier[out])) return false;
          layer.multiplier[out] = multiplier[out];
          int64_t sum = 0, largest = std::llabs(int64_t{bias[out]});
          for (size_t in = 0; in < input.channels; in++) {
            for (size_t tap = 0; tap < layer.taps; tap++) {
              const size_t from = (out * input.channels + in) * layer.taps + tap;
              const int16_t weight = weights[from];
              const size_t interleave = kernels.interleave;
              const size_t group = (out / kernels.lanes * layer.taps + tap) * (channels / interleave) + in / interleave;
              const size_t to = (group * kernels.lanes + out % kernels.lanes) * interleave + in % interleave;
              if (is_float) layer.weights[from] = static_cast<uint8_t>(weight);
              else std::memcpy(&layer.weights[to * kernels.weight_bytes], &weight, kernels.weight_bytes);
              sum += weight;
              largest += std::abs(weight) * 255;
            }
          }
          if (largest >= kLargestAccumulator) return false;
          if (!is_float && static_cast<double>(largest) * std::fabs(multiplier[out]) >= kLargestProduct) return false;
          layer.bias[out] = static_cast<int32_t>(bias[out] - sum * input.zero_point);
        }

        const int64_t last_read = int64_t{output.length - 1} * layer.stride + reach - layer.pad_left;
        input.rows_ahead = std::max<size_t>(input.rows_ahead, layer.pad_left);
        input.rows_after = std::max<size_t>(input.rows_after, std::max<int64_t>(0, last_read - input.length + 1));
        break;
      }
      case Operation::kAddition: {
        if (layer.input_b >= tensor_count || !is_known[layer.input_b]) return false;
        const Tensor& other = tensors_[layer.input_b];
        if (other.is_float || other.channels != input.channels || other.length != input.length) return false;
        if (output.channels != input.channels || output.length != input.length) return false;
        if (!IsRatio(layer.multiplier_a) || !IsRatio(layer.multiplier_b)) return false;
        break;
      }
      case Operation::kAveragePool:
        if (output.length != 1 || output.channels != input.channels) return false;
        break;
    }
    output.is_float = is_float;
    is_known[layer.output] = true;
    layers_.push_back(std::move(layer));
  }
  const bool outputs_are_known = std::all_of(outputs_.begin(), outputs_.end(),
                                             [&](const NetworkOutput& output) { return is_known[output.tensor]; });
  return !payload.failed() && payload.is_at_end() && outputs_are_known;
}

bool Network::Bind(const HefNetworkGroup& group) {
  std::vector<NetworkOutput> in_stream_order;
  size_t inputs = 0;
  for (const Layer& layer : group.layers) {
    if (layer.data_bytes != 1 || layer.shape.height != 1 || layer.hardware_shape.height != 1) return false;
    if (layer.hardware_shape.width < layer.shape.width || layer.hardware_shape.features < layer.shape.features)
      return false;
    if (layer.direction == kHostToDevice) {
      const Tensor& tensor = tensors_[input_tensor_];
      if (layer.shape.width != tensor.length || layer.shape.features != tensor.channels) return false;
      if (layer.hardware_order != kOrderNhcw && layer.hardware_order != kOrderNhwc) return false;
      input_layer_ = layer;
      inputs++;
      continue;
    }
    const auto output = std::find_if(outputs_.begin(), outputs_.end(),
                                     [&](const NetworkOutput& candidate) { return candidate.stream == layer.name; });
    if (output == outputs_.end() || layer.shape.width != 1 || tensors_[output->tensor].length != 1) return false;
    if (tensors_[output->tensor].channels != layer.shape.features) return false;
    in_stream_order.push_back(*output);
    output_bytes_.push_back(layer.FrameBytes());
  }
  outputs_ = std::move(in_stream_order);
  return inputs == 1 && !outputs_.empty();
}

void Network::LayOut() {
  for (Tensor& tensor : tensors_) {
    if (tensor.is_float) {
      tensor.offset = floats_;
      floats_ += tensor.row;
    } else {
      tensor.offset = activations_;
      activations_ += (tensor.rows_ahead + tensor.length + tensor.rows_after) * tensor.row;
    }
  }
}

// The padding in time is written here once: no layer writes outside its output's own rows.
Network::Scratch Network::MakeScratch() const {
  Scratch scratch{std::vector<uint8_t>(activations_), std::vector<int16_t>(patch_values_), std::vector<float>(floats_)};
  for (const Tensor& tensor : tensors_) {
    if (tensor.is_float) continue;
    const size_t rows = tensor.rows_ahead + tensor.length + tensor.rows_after;
    std::memset(&scratch.activations[tensor.offset], tensor.zero_point, rows * tensor.row);
  }
  return scratch;
}

uint8_t* Network::FirstRow(uint32_t tensor, Scratch* scratch) const {
  return &scratch->activations[tensors_[tensor].offset + tensors_[tensor].rows_ahead * tensors_[tensor].row];
}

void Network::Run(const uint8_t* input, uint8_t* const* outputs, Scratch* scratch) const {
  ReadInput(input, FirstRow(input_tensor_, scratch));
  for (const NetworkLayer& layer : layers_) {
    if (layer.operation == Operation::kAddition) {
      Add(layer, scratch);
    } else if (layer.operation == Operation::kAveragePool) {
      Pool(layer, scratch);
    } else if (tensors_[layer.output].is_float) {
      MultiplyToFloat(layer, scratch);
    } else {
      Convolve(layer, scratch);
    }
  }
  for (size_t i = 0; i < outputs_.size(); i++) WriteOutput(i, *scratch, outputs[i]);
}

void Network::ReadInput(const uint8_t* input, uint8_t* rows) const {
  const Tensor& tensor = tensors_[input_tensor_];
  const bool is_nhcw = input_layer_.hardware_order == kOrderNhcw;
  const size_t time_step = is_nhcw ? 1 : input_layer_.hardware_shape.features;
  const size_t channel_step = is_nhcw ? input_layer_.hardware_shape.width : 1;
  for (size_t t = 0; t < tensor.length; t++) {
    for (size_t channel = 0; channel < tensor.channels; channel++) {
      rows[t * tensor.row + channel] = input[t * time_step + channel * channel_step];
    }
  }
}

void Network::Convolve(const NetworkLayer& layer, Scratch* scratch) const {
  const Tensor& input = tensors_[layer.input_a];
  const Tensor& output = tensors_[layer.output];
  Convolution task;
  task.input = FirstRow(layer.input_a, scratch) - layer.pad_left * input.row;
  task.input_row = input.row;
  task.stride = layer.stride;
  task.dilation = layer.dilation;
  task.taps = layer.taps;
  task.channels = RoundUp(input.channels, kernels_->channel_step);
  task.weights = layer.weights.data();
  task.bias = layer.bias.data();
  task.multiplier = layer.multiplier.data();
  task.zero_point = output.zero_point;
  task.low = layer.relu ? output.zero_point : 0;
  task.output = FirstRow(layer.output, scratch);
  task.output_row = output.row;
  task.length = output.length;
  task.patches = scratch->patches.data();
  kernels_->convolve(task);
}

void Network::Add(const NetworkLayer& layer, Scratch* scratch) const {
  const Tensor& output = tensors_[layer.output];
  Addition task;
  task.a = FirstRow(layer.input_a, scratch);
  task.b = FirstRow(layer.input_b, scratch);
  task.multiplier_a = layer.multiplier_a;
  task.multiplier_b = layer.multiplier_b;
  task.offset = 0.5 - tensors_[layer.input_a].zero_point * layer.multiplier_a -
                tensors_[layer.input_b].zero_point * layer.multiplier_b;
  task.zero_point = output.zero_point;
  task.low = layer.relu ? output.zero_point : 0;
  task.output = FirstRow(layer.output, scratch);
  task.count = output.length * output.row;
  kernels_->add(task);
}

void Network::Pool(const NetworkLayer& layer, Scratch* scratch) const {
  const Tensor& input = tensors_[layer.input_a];
  const Tensor& output = tensors_[layer.output];
  const int32_t low = layer.relu ? output.zero_point : 0;
  for (size_t block = 0; block < input.row; block += kLanes) {
    const uint8_t* const from = FirstRow(layer.input_a, scratch) + block;
    int32_t sums[kLanes] = {};
    for (size_t t = 0; t < input.length; t++) {
      for (size_t lane = 0; lane < kLanes; lane++) sums[lane] += from[t * input.row + lane];
    }
    uint8_t* const to = FirstRow(layer.output, scratch) + block;
    for (size_t lane = 0; lane < kLanes; lane++) {
      const double sum = sums[lane] - input.zero_point * static_cast<int32_t>(input.length);
      to[lane] = static_cast<uint8_t>(
          std::clamp<double>(std::floor(sum * layer.multiplier_a + 0.5) + output.zero_point, low, 255));
    }
  }
}

/// So few values that the plainest loop is good enough: integers have only one sum.
void Network::MultiplyToFloat(const NetworkLayer& layer, Scratch* scratch) const {
  const Tensor& input = tensors_[layer.input_a];
  const Tensor& output = tensors_[layer.output];
  const uint8_t* const values = FirstRow(layer.input_a, scratch);
  const auto* weights = reinterpret_cast<const int8_t*>(layer.weights.data());
  for (size_t out = 0; out < output.channels; out++, weights += input.channels) {
    int32_t sum = layer.bias[out];
    for (size_t in = 0; in < input.channels; in++) sum += values[in] * weights[in];
    scratch->floats[output.offset + out] = static_cast<float>(sum * layer.multiplier[out]);
  }
}

void Network::WriteOutput(size_t index, const Scratch& scratch, uint8_t* bytes) const {
  const NetworkOutput& output = outputs_[index];
  const Tensor& tensor = tensors_[output.tensor];
  std::memset(bytes, 0, output_bytes_[index]);
  for (size_t channel = 0; channel < tensor.channels; channel++) {
    if (tensor.is_float) {
      const double value = scratch.floats[tensor.offset + channel];
      bytes[channel] = QuantiseByte(std::floor(value / output.scale + 0.5) + output.zero_point);
    } else {
      bytes[channel] = scratch.activations[tensor.offset + tensor.rows_ahead * tensor.row + channel];
    }
  }
}

}  // namespace soft
