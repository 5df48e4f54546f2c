// A small network for tests of the software HailoRT: its HEF, and its results by the plainest arithmetic.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <random>
#include <string>
#include <vector>

namespace toy {

constexpr size_t kChannels = 5, kLength = 20, kPaddedLength = 24;
constexpr size_t kInputBytes = kChannels * kPaddedLength;
constexpr size_t kLatents = 19, kLatentBytes = 24;
constexpr size_t kScores = 6, kScoreBytes = 8;
constexpr float kInputScale = 0.0625F, kInputZeroPoint = 128;

// Protobuf, as far as a HEF needs it.

inline std::string Varint(uint64_t value) {
  std::string bytes;
  for (; value > 127; value >>= 7) bytes += static_cast<char>(value | 128);
  return bytes + static_cast<char>(value);
}
inline std::string Number(uint32_t field, uint64_t value) { return Varint(field << 3) + Varint(value); }
inline std::string Bytes(uint32_t field, const std::string& value) {
  return Varint(field << 3 | 2) + Varint(value.size()) + value;
}
template <typename T>
std::string Raw(T value) {
  return std::string(reinterpret_cast<const char*>(&value), sizeof value);
}
inline std::string Float(uint32_t field, float value) { return Varint(field << 3 | 5) + Raw(value); }
inline std::string Double(uint32_t field, double value) { return Varint(field << 3 | 1) + Raw(value); }

inline uint32_t Crc32(const std::string& data) {
  uint32_t crc = ~0U;
  for (const char byte : data) {
    crc ^= static_cast<uint8_t>(byte);
    for (int bit = 0; bit < 8; bit++) crc = crc >> 1 ^ ((crc & 1) != 0 ? 0xEDB88320U : 0);
  }
  return ~crc;
}

inline std::string BigEndian(uint64_t value, int bytes) {
  std::string text;
  for (int i = bytes - 1; i >= 0; i--) text += static_cast<char>(value >> (8 * i));
  return text;
}

/// A version 1 container around a protobuf.
inline std::string Container(const std::string& proto) {
  return BigEndian(0x01484546, 4) + BigEndian(1, 4) + BigEndian(proto.size(), 4) + BigEndian(Crc32(proto), 4) +
         BigEndian(0, 8) + BigEndian(0, 4) + proto;
}

enum Operation : uint32_t { kConvolution = 1, kMatrix = 2, kAddition = 3, kAveragePool = 4 };

struct Tensor {
  uint32_t channels, length;
  int32_t zero_point;
  float scale;
};

struct Layer {
  Operation operation;
  uint32_t a, b, output;
  bool relu, is_float;
  uint32_t taps, stride, dilation, pad_left, pad_right;
  double multiplier_a, multiplier_b;
  std::vector<int8_t> weights;
  std::vector<int32_t> bias;
  std::vector<float> multiplier;
};

/// Convolutions of every kind, an addition, a pool, and both kinds of matrix, with channels that fill no vector.
class Network {
 public:
  explicit Network(uint32_t seed) : random_(seed) {
    tensors = {{kChannels, kLength, 128, kInputScale},
               {17, 20, 0, 0.02F},
               {17, 20, 100, 0.03F},
               {17, 20, 0, 0.04F},
               {33, 10, 0, 0.02F},
               {33, 1, 0, 0.01F},
               {kLatents, 1, 117, 0.02F},
               {kScores, 1, 0, 1}};
    Convolve(0, 1, true, 3, 1, 1, 1, 1);
    Convolve(1, 2, false, 3, 1, 2, 2, 2);
    layers.push_back({kAddition, 1, 2, 3, true, false, 1, 1, 1, 0, 0, 0.75F, 1.25F, {}, {}, {}});
    Convolve(3, 4, true, 3, 2, 1, 1, 1);
    layers.push_back({kAveragePool, 4, kNone, 5, false, false, 1, 1, 1, 0, 0, 0.17F, 0, {}, {}, {}});
    Multiply(5, 6, false);
    Multiply(6, 7, true);
  }

  struct Result {
    std::array<uint8_t, kLatentBytes> latent{};
    std::array<uint8_t, kScoreBytes> scores{};
    bool operator==(const Result& other) const { return latent == other.latent && scores == other.scores; }
  };

  /// @param input  NHCW bytes, as on the stream
  Result Run(const uint8_t* input) const {
    std::vector<std::vector<double>> values(tensors.size());  // less the zero point, [channel][time]
    for (size_t i = 0; i < tensors.size(); i++) values[i].resize(size_t{tensors[i].channels} * tensors[i].length);
    for (size_t channel = 0; channel < kChannels; channel++) {
      for (size_t t = 0; t < kLength; t++) values[0][channel * kLength + t] = input[channel * kPaddedLength + t] - 128;
    }
    for (const Layer& layer : layers) {
      const Tensor& a = tensors[layer.a];
      const Tensor& y = tensors[layer.output];
      const double low = layer.relu ? 0 : -y.zero_point, high = 255 - y.zero_point;
      for (size_t out = 0; out < y.channels; out++) {
        for (size_t t = 0; t < y.length; t++) {
          double& target = values[layer.output][out * y.length + t];
          if (layer.operation == kAddition) {
            const size_t at = out * y.length + t;
            target =
                std::floor(values[layer.a][at] * layer.multiplier_a + values[layer.b][at] * layer.multiplier_b + 0.5);
          } else if (layer.operation == kAveragePool) {
            double sum = 0;
            for (size_t from = 0; from < a.length; from++) sum += values[layer.a][out * a.length + from];
            target = std::floor(sum * layer.multiplier_a + 0.5);
          } else {
            double sum = layer.bias[out];
            for (size_t in = 0; in < a.channels; in++) {
              for (size_t tap = 0; tap < layer.taps; tap++) {
                const int64_t from = static_cast<int64_t>(t * layer.stride + tap * layer.dilation) - layer.pad_left;
                if (from < 0 || from >= a.length) continue;
                sum +=
                    values[layer.a][in * a.length + from] * layer.weights[(out * a.channels + in) * layer.taps + tap];
              }
            }
            if (layer.is_float) {
              target = static_cast<float>(sum * layer.multiplier[out]);
              continue;
            }
            target = std::floor(sum * layer.multiplier[out] + 0.5);
          }
          target = std::clamp(target, low, high);
        }
      }
    }
    Result result;
    for (size_t i = 0; i < kLatents; i++) result.latent[i] = static_cast<uint8_t>(values[6][i] + 117);
    for (size_t i = 0; i < kScores; i++) {
      result.scores[i] =
          static_cast<uint8_t>(std::clamp(std::floor(values[7][i] / score_scale + 0.5) + 90, 0.0, 255.0));
    }
    return result;
  }

  std::string Payload() const {
    std::string bytes =
        "SOFTNET1" + Raw<uint32_t>(tensors.size()) + Raw<uint32_t>(layers.size()) + Raw<uint32_t>(2) + Raw<uint32_t>(0);
    for (const Tensor& tensor : tensors)
      bytes += Raw(tensor.channels) + Raw(tensor.length) + Raw(tensor.zero_point) + Raw(tensor.scale);
    const auto output = [&](std::string name, uint32_t tensor, float scale, float zero_point) {
      name.resize(128);
      bytes += name + Raw(tensor) + Raw(scale) + Raw(zero_point);
    };
    output("toy/scores", 7, score_scale, 90);  // in another order than the streams
    output("toy/latent", 6, 0.02F, 117);
    for (const Layer& layer : layers) {
      for (const uint32_t number :
           {uint32_t{layer.operation}, layer.a, layer.b, layer.output, uint32_t{layer.relu}, uint32_t{layer.is_float},
            layer.taps, layer.stride, layer.dilation, layer.pad_left, layer.pad_right}) {
        bytes += Raw(number);
      }
      bytes += Raw(layer.multiplier_a) + Raw(layer.multiplier_b) + Raw<uint32_t>(layer.weights.size());
      bytes.append(reinterpret_cast<const char*>(layer.weights.data()), layer.weights.size());
      bytes.append((4 - layer.weights.size() % 4) % 4, '\0');
      bytes += Raw<uint32_t>(layer.bias.size());
      for (const int32_t bias : layer.bias) bytes += Raw(bias);
      for (const float multiplier : layer.multiplier) bytes += Raw(multiplier);
    }
    return bytes;
  }

  std::vector<Tensor> tensors;
  std::vector<Layer> layers;
  float score_scale = 0.05F;

 private:
  static constexpr uint32_t kNone = 0xFFFFFFFF;

  void Fill(Layer* layer, size_t inputs, size_t outputs) {
    std::uniform_int_distribution<int> weight(-127, 127), bias(-2000, 2000);
    for (size_t i = 0; i < outputs * inputs * layer->taps; i++)
      layer->weights.push_back(static_cast<int8_t>(weight(random_)));
    for (size_t i = 0; i < outputs; i++) {
      layer->bias.push_back(bias(random_));
      layer->multiplier.push_back(0.001F + 0.002F * static_cast<float>(random_() % 1000) / 1000);
    }
  }

  void Convolve(uint32_t from, uint32_t to, bool relu, uint32_t taps, uint32_t stride, uint32_t dilation, uint32_t left,
                uint32_t right) {
    Layer layer{kConvolution, from, kNone, to, relu, false, taps, stride, dilation, left, right, 0, 0, {}, {}, {}};
    Fill(&layer, tensors[from].channels, tensors[to].channels);
    layers.push_back(layer);
  }

  void Multiply(uint32_t from, uint32_t to, bool is_float) {
    Layer layer{kMatrix, from, kNone, to, false, is_float, 1, 1, 1, 0, 0, 0, 0, {}, {}, {}};
    Fill(&layer, tensors[from].channels, tensors[to].channels);
    if (is_float) {
      for (float& multiplier : layer.multiplier) multiplier *= 0.1F;
    }
    layers.push_back(layer);
  }

  std::mt19937 random_;
};

/// What can be different about a toy HEF.
struct HefOptions {
  uint32_t architecture = 0;
  std::string mapping;
  std::vector<uint32_t> extensions = {26};
  bool scale_per_feature = false;
};

inline std::string LayerMessage(const std::string& name, uint32_t format, uint32_t width, uint32_t padded_width,
                                uint32_t features, uint32_t padded_features, float zero_point, float scale,
                                uint32_t index, bool per_feature) {
  std::string base = Number(1, 1) + Number(2, 1) + Number(3, width) + Number(4, padded_width) + Number(5, features) +
                     Number(6, padded_features) + Number(7, format) + Number(8, index) + Number(12, 1);
  std::string numeric =
      Float(1, zero_point) + Float(2, scale) + Float(3, -zero_point * scale) + Float(4, (255 - zero_point) * scale);
  std::string zero_points, scales;
  for (uint32_t i = 0; i < (per_feature ? features : 1); i++) {
    zero_points += Raw(static_cast<double>(zero_point));
    scales += Raw(static_cast<double>(scale) * (format == 1 ? 1 : i + 1));  // an input has one scale only
  }
  numeric += Bytes(5, zero_points) + Bytes(6, scales);
  return Bytes(1, name) + Bytes(2, base) + Bytes(3, numeric);
}

inline std::string Proto(const HefOptions& options) {
  const bool per_feature = options.scale_per_feature;
  const auto edge = [](uint32_t direction, const std::string& layer) {
    return Bytes(2, Number(1, direction) + Bytes(3, layer));
  };
  const std::string context =
      Bytes(3, edge(0, LayerMessage("toy/input", 1, kLength, kPaddedLength, kChannels, kChannels, kInputZeroPoint,
                                    kInputScale, 1, per_feature)) +
                   edge(1, LayerMessage("toy/latent", 2, 1, 1, kLatents, kLatentBytes, 117, 0.02F, 0, per_feature)) +
                   edge(1, LayerMessage("toy/scores", 2, 1, 1, kScores, kScoreBytes, 90, 0.05F, 2, per_feature)));
  std::string proto = Bytes(1, Number(1, options.architecture));
  proto += Bytes(2, Bytes(1, Bytes(1, "toy") + Double(4, 20000)) + Bytes(3, context) + Bytes(6, "toy"));
  proto += Bytes(3, options.mapping);
  for (const uint32_t extension : options.extensions) proto += Bytes(5, Number(1, extension));
  if (per_feature) proto += Bytes(5, Number(1, 25));
  return proto;
}

/// Input frame number `i`: random bytes, zeros in the padding.
inline std::array<uint8_t, kInputBytes> Frame(uint64_t i) {
  std::mt19937 random(static_cast<uint32_t>(i) + 1);
  std::array<uint8_t, kInputBytes> frame{};
  for (size_t channel = 0; channel < kChannels; channel++) {
    for (size_t t = 0; t < kLength; t++) frame[channel * kPaddedLength + t] = static_cast<uint8_t>(random());
  }
  return frame;
}

}  // namespace toy
