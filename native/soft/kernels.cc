#include "kernels.h"

#include <algorithm>
#include <cstring>

#include "release.h"

#if defined(__x86_64__)
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

namespace soft {
namespace {

/// Clamped before it is floored: the bounds are whole numbers, so the result is the same, and it fits an int.
/// std::floor() would be a function call on a baseline x86-64.
int16_t Requantise(double value, int32_t low, int32_t high) {
  const double clamped = std::min(std::max(value + 0.5, static_cast<double>(low)), static_cast<double>(high));
  const auto truncated = static_cast<int32_t>(clamped);
  return static_cast<int16_t>(truncated - (truncated > clamped ? 1 : 0));
}

/// Four outputs in time at once, so that each weight is loaded once for all four.
template <size_t kTimes>
void ConvolveTilePortably(const Convolution& task, size_t t, size_t block) {
  const size_t time_step = task.stride * task.input_row;
  const int16_t* first_tap = task.input + t * time_step;
  const int16_t* weights = task.weights + block * task.taps * task.channels;
  int32_t sums[kTimes][kLanes];
  for (size_t i = 0; i < kTimes; i++) std::memcpy(sums[i], task.bias + block, sizeof sums[i]);
  for (uint32_t tap = 0; tap < task.taps; tap++) {
    const int16_t* row = first_tap + tap * task.dilation * task.input_row;
    for (uint32_t channel = 0; channel < task.channels; channel++, weights += kLanes) {
      for (size_t i = 0; i < kTimes; i++) {
        const int16_t input = row[i * time_step + channel];
        for (size_t lane = 0; lane < kLanes; lane++) sums[i][lane] += input * weights[lane];
      }
    }
  }
  for (size_t i = 0; i < kTimes; i++) {
    int16_t* output = task.output + (t + i) * task.output_row + block;
    for (size_t lane = 0; lane < kLanes; lane++) {
      output[lane] = Requantise(sums[i][lane] * task.multiplier[block + lane], task.low, task.high);
    }
  }
}

void ConvolvePortably(const Convolution& task) {
  for (size_t block = 0; block < task.output_row; block += kLanes) {
    size_t t = 0;
    for (; t + 4 <= task.length; t += 4) ConvolveTilePortably<4>(task, t, block);
    for (; t < task.length; t++) ConvolveTilePortably<1>(task, t, block);
  }
}

void AddPortably(const Addition& task) {
  for (size_t i = 0; i < task.count; i++) {
    task.output[i] = Requantise(task.a[i] * task.multiplier_a + task.b[i] * task.multiplier_b, task.low, task.high);
  }
}

#if defined(__x86_64__)

#define SOFT_AVX2 __attribute__((target("avx2")))

SOFT_AVX2 inline __m128i RequantiseAvx2(__m256d value, __m256d low, __m256d high) {
  const __m256d rounded = _mm256_floor_pd(_mm256_add_pd(value, _mm256_set1_pd(0.5)));
  return _mm256_cvttpd_epi32(_mm256_min_pd(_mm256_max_pd(rounded, low), high));
}

SOFT_AVX2 inline __m128i RequantiseAvx2(__m256i sums, const double* multiplier, __m256d low, __m256d high) {
  const __m256d first = _mm256_mul_pd(_mm256_cvtepi32_pd(_mm256_castsi256_si128(sums)), _mm256_loadu_pd(multiplier));
  const __m256d second =
      _mm256_mul_pd(_mm256_cvtepi32_pd(_mm256_extracti128_si256(sums, 1)), _mm256_loadu_pd(multiplier + 4));
  return _mm_packs_epi32(RequantiseAvx2(first, low, high), RequantiseAvx2(second, low, high));
}

/// `kTimes` consecutive outputs of one block of channels: each pair of weights is loaded once for all.
template <size_t kTimes>
SOFT_AVX2 inline void ConvolveTileAvx2(const Convolution& task, size_t t, size_t block) {
  const size_t time_step = task.stride * task.input_row;
  const int16_t* first_tap = task.input + t * time_step;
  const int16_t* weights = task.weights + block * task.taps * task.channels;
  __m256i sums[kTimes][2];
  for (size_t i = 0; i < kTimes; i++) {
    sums[i][0] = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(task.bias + block));
    sums[i][1] = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(task.bias + block + 8));
  }
  for (uint32_t tap = 0; tap < task.taps; tap++) {
    const int16_t* row = first_tap + tap * task.dilation * task.input_row;
    for (uint32_t channel = 0; channel < task.channels; channel += 2, weights += 2 * kLanes) {
      const __m256i weights0 = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(weights));
      const __m256i weights1 = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(weights + kLanes));
#pragma GCC unroll 8
      for (size_t i = 0; i < kTimes; i++) {
        int32_t pair;
        std::memcpy(&pair, row + i * time_step + channel, sizeof pair);
        const __m256i inputs = _mm256_set1_epi32(pair);
        sums[i][0] = _mm256_add_epi32(sums[i][0], _mm256_madd_epi16(inputs, weights0));
        sums[i][1] = _mm256_add_epi32(sums[i][1], _mm256_madd_epi16(inputs, weights1));
      }
    }
  }
  const __m256d low = _mm256_set1_pd(task.low), high = _mm256_set1_pd(task.high);
  for (size_t i = 0; i < kTimes; i++) {
    auto* output = reinterpret_cast<__m128i*>(task.output + (t + i) * task.output_row + block);
    _mm_storeu_si128(output, RequantiseAvx2(sums[i][0], task.multiplier + block, low, high));
    _mm_storeu_si128(output + 1, RequantiseAvx2(sums[i][1], task.multiplier + block + 8, low, high));
  }
}

SOFT_AVX2 void ConvolveAvx2(const Convolution& task) {
  for (size_t block = 0; block < task.output_row; block += kLanes) {
    size_t t = 0;
    for (; t + 4 <= task.length; t += 4) ConvolveTileAvx2<4>(task, t, block);
    for (; t < task.length; t++) ConvolveTileAvx2<1>(task, t, block);
  }
}

SOFT_AVX2 void AddAvx2(const Addition& task) {
  const __m256d multiplier_a = _mm256_set1_pd(task.multiplier_a), multiplier_b = _mm256_set1_pd(task.multiplier_b);
  const __m256d low = _mm256_set1_pd(task.low), high = _mm256_set1_pd(task.high);
  for (size_t i = 0; i < task.count; i += 8) {
    const __m256i a = _mm256_cvtepi16_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(task.a + i)));
    const __m256i b = _mm256_cvtepi16_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(task.b + i)));
    const __m256d first = _mm256_add_pd(_mm256_mul_pd(_mm256_cvtepi32_pd(_mm256_castsi256_si128(a)), multiplier_a),
                                        _mm256_mul_pd(_mm256_cvtepi32_pd(_mm256_castsi256_si128(b)), multiplier_b));
    const __m256d second =
        _mm256_add_pd(_mm256_mul_pd(_mm256_cvtepi32_pd(_mm256_extracti128_si256(a, 1)), multiplier_a),
                      _mm256_mul_pd(_mm256_cvtepi32_pd(_mm256_extracti128_si256(b, 1)), multiplier_b));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(task.output + i),
                     _mm_packs_epi32(RequantiseAvx2(first, low, high), RequantiseAvx2(second, low, high)));
  }
}

const Kernels kAvx2Kernels = {"avx2", 2, ConvolveAvx2, AddAvx2};

#elif defined(__aarch64__)

inline int32x2_t RequantiseNeon(float64x2_t value, float64x2_t low, float64x2_t high) {
  const float64x2_t rounded = vrndmq_f64(vaddq_f64(value, vdupq_n_f64(0.5)));
  return vmovn_s64(vcvtq_s64_f64(vminq_f64(vmaxq_f64(rounded, low), high)));
}

inline float64x2_t ToDouble(int32x2_t values) { return vcvtq_f64_s64(vmovl_s32(values)); }

template <size_t kTimes>
inline void ConvolveTileNeon(const Convolution& task, size_t t, size_t block) {
  const size_t time_step = task.stride * task.input_row;
  const int16_t* first_tap = task.input + t * time_step;
  const int16_t* weights = task.weights + block * task.taps * task.channels;
  int32x4_t sums[kTimes][4];
  for (size_t i = 0; i < kTimes; i++) {
    for (size_t part = 0; part < 4; part++) sums[i][part] = vld1q_s32(task.bias + block + 4 * part);
  }
  for (uint32_t tap = 0; tap < task.taps; tap++) {
    const int16_t* row = first_tap + tap * task.dilation * task.input_row;
    for (uint32_t channel = 0; channel < task.channels; channel++, weights += kLanes) {
      const int16x8_t weights0 = vld1q_s16(weights), weights1 = vld1q_s16(weights + 8);
#pragma GCC unroll 4
      for (size_t i = 0; i < kTimes; i++) {
        const int16_t input = row[i * time_step + channel];
        sums[i][0] = vmlal_n_s16(sums[i][0], vget_low_s16(weights0), input);
        sums[i][1] = vmlal_n_s16(sums[i][1], vget_high_s16(weights0), input);
        sums[i][2] = vmlal_n_s16(sums[i][2], vget_low_s16(weights1), input);
        sums[i][3] = vmlal_n_s16(sums[i][3], vget_high_s16(weights1), input);
      }
    }
  }
  const float64x2_t low = vdupq_n_f64(task.low), high = vdupq_n_f64(task.high);
  for (size_t i = 0; i < kTimes; i++) {
    int16_t* output = task.output + (t + i) * task.output_row + block;
    for (size_t part = 0; part < 4; part++) {
      const double* multiplier = task.multiplier + block + 4 * part;
      const float64x2_t first = vmulq_f64(ToDouble(vget_low_s32(sums[i][part])), vld1q_f64(multiplier));
      const float64x2_t second = vmulq_f64(ToDouble(vget_high_s32(sums[i][part])), vld1q_f64(multiplier + 2));
      vst1_s16(output + 4 * part,
               vmovn_s32(vcombine_s32(RequantiseNeon(first, low, high), RequantiseNeon(second, low, high))));
    }
  }
}

void ConvolveNeon(const Convolution& task) {
  for (size_t block = 0; block < task.output_row; block += kLanes) {
    size_t t = 0;
    for (; t + 4 <= task.length; t += 4) ConvolveTileNeon<4>(task, t, block);
    for (; t < task.length; t++) ConvolveTileNeon<1>(task, t, block);
  }
}

void AddNeon(const Addition& task) {
  const float64x2_t low = vdupq_n_f64(task.low), high = vdupq_n_f64(task.high);
  const auto weighted = [&](int32x2_t a, int32x2_t b) {
    const float64x2_t sum =
        vaddq_f64(vmulq_n_f64(ToDouble(a), task.multiplier_a), vmulq_n_f64(ToDouble(b), task.multiplier_b));
    return RequantiseNeon(sum, low, high);
  };
  for (size_t i = 0; i < task.count; i += 4) {
    const int32x4_t a = vmovl_s16(vld1_s16(task.a + i)), b = vmovl_s16(vld1_s16(task.b + i));
    vst1_s16(task.output + i, vmovn_s32(vcombine_s32(weighted(vget_low_s32(a), vget_low_s32(b)),
                                                     weighted(vget_high_s32(a), vget_high_s32(b)))));
  }
}

const Kernels kNeonKernels = {"neon", 1, ConvolveNeon, AddNeon};

#endif

}  // namespace

const Kernels kPortableKernels = {"portable", 1, ConvolvePortably, AddPortably};

const Kernels& BestKernels() {
  if (std::strcmp(EnvironmentOr("SOFTHAILORT_SIMD", ""), "off") == 0) return kPortableKernels;
#if defined(__x86_64__)
  if (__builtin_cpu_supports("avx2")) return kAvx2Kernels;
#elif defined(__aarch64__)
  return kNeonKernels;
#endif
  return kPortableKernels;
}

}  // namespace soft
