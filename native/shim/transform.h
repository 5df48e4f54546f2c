// From a window to the bytes that the device reads, and from the bytes that it writes to floats.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

#include "hailort.h"

namespace shim {

constexpr size_t kTimesteps = 100;
constexpr size_t kChannels = 9;
constexpr size_t kWindowValues = kTimesteps * kChannels;
constexpr size_t kLatentDims = 64;

/// (x - mean) / std per channel, in float32.
struct Normalisation {
  std::array<float, kChannels> mean, std;
};

/// z-score, clip, quantise and transpose, in one pass over a window.
///
///   x' = (x - mean) / std                     left out when the HEF carries it
///   q  = round(clip(x', limits) / scale + zero point), half to even, clamped to 0 … 255; NaN gives 0
///
/// Every step is one float32 operation in this order: the bits are those of HailoRT's own transform.
class InputTransform {
 public:
  /// @throws Failure kHefRefused when the stream does not take a window of uint8 in an order that we know
  InputTransform(const StreamLayout& layout, const std::optional<Normalisation>& normalisation);

  /// @param window float32[100][9], finite. @param frame `layout.frame_bytes`; padding is left as it is
  void Run(const float* window, uint8_t* frame) const;

 private:
  using Table = std::array<float, kWindowValues>;  // one entry per value of a window: no arithmetic on indices

  Table mean_, std_, limit_min_, limit_max_, scale_, zero_point_;
  std::array<uint16_t, kWindowValues> position_;
};

/// y = (q - zero point) × scale, in float32.
class OutputTransform {
 public:
  /// @throws Failure kHefRefused when the stream does not give `features` values in an order that we know
  OutputTransform(const StreamLayout& layout, size_t features);

  /// @param frame `layout.frame_bytes`. @param values float32[features]
  void Run(const uint8_t* frame, float* values) const;

 private:
  std::vector<float> zero_point_, scale_;
  const uint32_t bytes_per_value_;
};

/// Motif scores from a latent, for a HEF that ends there: softmax(W · latent + b).
struct MotifHead {
  std::vector<float> weights;  // float32[motifs][64]
  std::vector<float> bias;     // float32[motifs]

  void Run(const float* latent, float* logits) const;
};

/// In place.
void Softmax(float* values, size_t count);

}  // namespace shim
