// The inner loops of the int8 network: one portable set, one per instruction set, all with the same bits.
//
// Activations are uint8, time-major, channels padded to kLanes:
//
//   row t:  x[t][0] … x[t][channels - 1] ? … ?
//
// Weights of the padding are 0, so it does not matter what is there. Padding in time is rows of zero points, which
// biases and offsets account for (Network::Read), so no zero point of an input appears here.
#pragma once

#include <cstddef>
#include <cstdint>

namespace soft {

/// Channels are padded to a multiple of this.
constexpr size_t kLanes = 32;

/// y = clamp(floor(accumulator * multiplier + 0.5) + zero_point, low, 255)
/// The network's loader has made sure that no accumulator exceeds 2^29: with a float32 multiplier the product is
/// then exact in double, so fused and separate arithmetic agree on every CPU. Nor does the product exceed 2^30.
struct Convolution {
  const uint8_t* input;  // row of the first tap of output 0
  size_t input_row;      // bytes
  size_t stride, dilation, taps;
  size_t channels;           // of the input, a multiple of Kernels::channel_step
  const void* weights;       // see Kernels
  const int32_t* bias;       // padded
  const double* multiplier;  // padded
  int32_t zero_point, low;   // low: 0 or, where negative values are cut off, zero_point
  uint8_t* output;
  size_t output_row;  // the padded channels of the output
  size_t length;
  int16_t* patches;  // scratch, [Kernels::patches][taps * channels]
};

/// y = clamp(floor(a * multiplier_a + b * multiplier_b + offset) + zero_point, low, 255)
/// The loader has made sure that all of this is exact in double.
struct Addition {
  const uint8_t* a;
  const uint8_t* b;
  double multiplier_a, multiplier_b, offset;
  int32_t zero_point, low;
  uint8_t* output;
  size_t count;  // a multiple of kLanes
};

struct Kernels {
  const char* name;
  /// Weights lie as [output / lanes][tap][input / interleave][output % lanes][input % interleave].
  size_t lanes, interleave;
  size_t weight_bytes;  // 1: int8, 2: int16
  size_t channel_step;  // a multiple of interleave
  size_t patches;
  void (*convolve)(const Convolution& task);
  void (*add)(const Addition& task);
};

/// The best kernels for this CPU, or those that SOFTHAILORT_SIMD names; "off": the portable ones.
const Kernels& BestKernels();

}  // namespace soft
