// The inner loops of the int8 network: one portable set, one per instruction set, all with the same bits.
//
// Activations are int16, value minus zero point, time-major, channels padded to kLanes:
//
//   row t:  x[t][0] … x[t][channels - 1] 0 … 0
//
// so padding in time is rows of zeros, and no zero point appears in an inner loop.
#pragma once

#include <cstddef>
#include <cstdint>

namespace soft {

/// Channels are padded to a multiple of this; outputs are computed in blocks of as many.
constexpr size_t kLanes = 16;

/// y = clamp(floor(accumulator * multiplier + 0.5), low, high), all relative to the output's zero point.
/// The network's loader has made sure that no accumulator exceeds 2^29: with a float32 multiplier the
/// product is then exact in double, so fused and separate arithmetic agree on every CPU.
struct Convolution {
  const int16_t* input;  // row of the first tap of output 0
  size_t input_row;      // int16 per row
  size_t stride, dilation;
  uint32_t taps;
  uint32_t channels;         // of the input, padded
  const int16_t* weights;    // see Kernels::interleave
  const int32_t* bias;       // padded
  const double* multiplier;  // padded
  int32_t low, high;
  int16_t* output;
  size_t output_row;  // int16 per row, the padded channels of the output
  uint32_t length;
};

struct Addition {
  const int16_t* a;
  const int16_t* b;
  double multiplier_a, multiplier_b;
  int32_t low, high;
  int16_t* output;
  size_t count;  // a multiple of kLanes
};

struct Kernels {
  const char* name;
  /// Weights lie as [output / kLanes][tap][input / interleave][output % kLanes][input % interleave].
  size_t interleave;
  void (*convolve)(const Convolution& task);
  void (*add)(const Addition& task);
};

extern const Kernels kPortableKernels;

/// The best kernels for this CPU; the portable ones when SOFTHAILORT_SIMD is "off".
const Kernels& BestKernels();

}  // namespace soft
