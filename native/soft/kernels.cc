#include "kernels.h"

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <vector>

#include "release.h"

#if defined(__x86_64__)
// GCC takes the undefined values in its own intrinsics for ours (GCC bug 105593, fixed in 13).
#pragma GCC diagnostic push
#if !defined(__clang__)
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif
#include <immintrin.h>
#pragma GCC diagnostic pop
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

namespace soft {
namespace {

/// Rounds down, adds the zero point, clamps and stores kLanes values. Loop by loop: for each of these compilers find
/// vectors, where std::floor() would be function calls on a baseline x86-64.
void StoreRounded(double* values, int32_t zero_point, int32_t low, uint8_t* output) {
  const double lowest = low - zero_point, highest = 255 - zero_point;
  double floors[kLanes];
  for (size_t i = 0; i < kLanes; i++) values[i] = values[i] > lowest ? values[i] : lowest;
  for (size_t i = 0; i < kLanes; i++) values[i] = values[i] < highest ? values[i] : highest;
  for (size_t i = 0; i < kLanes; i++) floors[i] = static_cast<int32_t>(values[i]);
  for (size_t i = 0; i < kLanes; i++) floors[i] = floors[i] > values[i] ? floors[i] - 1 : floors[i];
  uint8_t results[kLanes];  // not the output at once, which for all the compiler knows may lie over anything
  for (size_t i = 0; i < kLanes; i++) results[i] = static_cast<uint8_t>(static_cast<int32_t>(floors[i]) + zero_point);
  std::memcpy(output, results, kLanes);
}

/// Some rows of a convolution's output as a product of matrices.
struct Product {
  const int16_t* patches;  // [rows of the kernels][depth]: what each output sees of the input; garbage from `rows` on
  size_t depth;
  const Convolution& task;
  uint8_t* output;
  size_t rows;
};

/// Gathers what `kRows` outputs at a time see of the input, so that each weight is loaded once for all of them.
template <size_t kRows>
void ConvolveInPatches(const Convolution& task, void (*multiply)(const Product&)) {
  const size_t time_step = task.stride * task.input_row, tap_step = task.dilation * task.input_row;
  const size_t channels = task.channels;
  for (size_t t = 0; t < task.length; t += kRows) {
    const size_t rows = std::min(kRows, task.length - t);
    int16_t* patch = task.patches;
    for (size_t row = 0; row < rows; row++) {
      for (size_t tap = 0; tap < task.taps; tap++, patch += channels) {
        const uint8_t* const from = task.input + (t + row) * time_step + tap * tap_step;
        for (size_t channel = 0; channel < channels; channel++) patch[channel] = from[channel];
      }
    }
    multiply({task.patches, task.taps * channels, task, task.output + t * task.output_row, rows});
  }
}

constexpr size_t kPortableRows = 4;

/// Sums over contiguous products of int16, which compilers know instructions for on most CPUs.
void MultiplyPortably(const Product& product) {
  const Convolution& task = product.task;
  const size_t depth = product.depth;
  const int16_t* const patches = product.patches;
  const auto* weights = static_cast<const int16_t*>(task.weights);
  for (size_t block = 0; block < task.output_row; block += kLanes) {
    int32_t sums[kPortableRows][kLanes];
    for (size_t lane = 0; lane < kLanes; lane++, weights += depth) {
      int32_t sum0 = 0, sum1 = 0, sum2 = 0, sum3 = 0;  // an array would not be registers to every compiler
      for (size_t i = 0; i < depth; i++) {
        sum0 += patches[i] * weights[i];
        sum1 += patches[depth + i] * weights[i];
        sum2 += patches[2 * depth + i] * weights[i];
        sum3 += patches[3 * depth + i] * weights[i];
      }
      sums[0][lane] = sum0;
      sums[1][lane] = sum1;
      sums[2][lane] = sum2;
      sums[3][lane] = sum3;
    }
    for (size_t row = 0; row < product.rows; row++) {
      double values[kLanes];
      for (size_t lane = 0; lane < kLanes; lane++) {
        const double accumulator = sums[row][lane] + task.bias[block + lane];
        values[lane] = accumulator * task.multiplier[block + lane] + 0.5;
      }
      StoreRounded(values, task.zero_point, task.low, product.output + row * task.output_row + block);
    }
  }
}

void ConvolvePortably(const Convolution& task) { ConvolveInPatches<kPortableRows>(task, MultiplyPortably); }

void AddPortably(const Addition& task) {
  for (size_t i = 0; i < task.count; i += kLanes) {
    double values[kLanes];
    for (size_t lane = 0; lane < kLanes; lane++) {
      values[lane] = task.a[i + lane] * task.multiplier_a + task.b[i + lane] * task.multiplier_b + task.offset;
    }
    StoreRounded(values, task.zero_point, task.low, task.output + i);
  }
}

const Kernels kPortableKernels = {"portable", 1, 1, 2, 16, kPortableRows, ConvolvePortably, AddPortably};

#if defined(__x86_64__)

#define SOFT_AVX2 __attribute__((target("avx2,fma")))

SOFT_AVX2 inline __m256i Floor(__m256d first, __m256d second) {
  const __m128i low = _mm256_cvttpd_epi32(_mm256_floor_pd(first));
  const __m128i high = _mm256_cvttpd_epi32(_mm256_floor_pd(second));
  return _mm256_inserti128_si256(_mm256_castsi128_si256(low), high, 1);
}

SOFT_AVX2 inline __m256i Scale(__m256i sums, const double* multiplier) {
  const __m256d half = _mm256_set1_pd(0.5);
  const __m256d first = _mm256_cvtepi32_pd(_mm256_castsi256_si128(sums));
  const __m256d second = _mm256_cvtepi32_pd(_mm256_extracti128_si256(sums, 1));
  return Floor(_mm256_fmadd_pd(first, _mm256_loadu_pd(multiplier), half),
               _mm256_fmadd_pd(second, _mm256_loadu_pd(multiplier + 4), half));
}

/// Adds the zero point, clamps and stores 16 values.
SOFT_AVX2 inline void Store(__m256i first, __m256i second, int32_t zero_point, int32_t low, uint8_t* output) {
  const __m256i offset = _mm256_set1_epi32(zero_point);
  // The packing takes its 128-bit halves apart.
  const __m256i words = _mm256_permute4x64_epi64(
      _mm256_packs_epi32(_mm256_add_epi32(first, offset), _mm256_add_epi32(second, offset)), 0xD8);
  const __m128i bytes = _mm_packus_epi16(_mm256_castsi256_si128(words), _mm256_extracti128_si256(words, 1));
  _mm_storeu_si128(reinterpret_cast<__m128i*>(output), _mm_max_epu8(bytes, _mm_set1_epi8(static_cast<char>(low))));
}

constexpr size_t kAvx2Rows = 5, kAvx2Lanes = 16;

SOFT_AVX2 void MultiplyAvx2(const Product& product) {
  const Convolution& task = product.task;
  const auto* weights = static_cast<const int16_t*>(task.weights);
  for (size_t block = 0; block < task.output_row; block += kAvx2Lanes) {
    const int16_t* patch = product.patches;
    __m256i sums[kAvx2Rows][2];
#pragma GCC unroll 5
    for (size_t row = 0; row < kAvx2Rows; row++) {
      sums[row][0] = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(task.bias + block));
      sums[row][1] = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(task.bias + block + 8));
    }
    for (size_t i = 0; i < product.depth; i += 2, patch += 2, weights += 2 * kAvx2Lanes) {
      const __m256i weights0 = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(weights));
      const __m256i weights1 = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(weights + kAvx2Lanes));
#pragma GCC unroll 5
      for (size_t row = 0; row < kAvx2Rows; row++) {
        int32_t pair;
        std::memcpy(&pair, patch + row * product.depth, sizeof pair);
        const __m256i inputs = _mm256_set1_epi32(pair);
        sums[row][0] = _mm256_add_epi32(sums[row][0], _mm256_madd_epi16(inputs, weights0));
        sums[row][1] = _mm256_add_epi32(sums[row][1], _mm256_madd_epi16(inputs, weights1));
      }
    }
#pragma GCC unroll 5
    for (size_t row = 0; row < kAvx2Rows; row++) {
      if (row == product.rows) break;
      Store(Scale(sums[row][0], task.multiplier + block), Scale(sums[row][1], task.multiplier + block + 8),
            task.zero_point, task.low, product.output + row * task.output_row + block);
    }
  }
}

SOFT_AVX2 void ConvolveAvx2(const Convolution& task) { ConvolveInPatches<kAvx2Rows>(task, MultiplyAvx2); }

SOFT_AVX2 inline __m256d ToDouble(const uint8_t* values) {
  int32_t four;
  std::memcpy(&four, values, sizeof four);
  return _mm256_cvtepi32_pd(_mm_cvtepu8_epi32(_mm_cvtsi32_si128(four)));
}

SOFT_AVX2 void AddAvx2(const Addition& task) {
  const __m256d multiplier_a = _mm256_set1_pd(task.multiplier_a), multiplier_b = _mm256_set1_pd(task.multiplier_b);
  const __m256d offset = _mm256_set1_pd(task.offset);
  for (size_t i = 0; i < task.count; i += kAvx2Lanes) {
    const auto sum = [&](size_t at) SOFT_AVX2 {
      return _mm256_fmadd_pd(ToDouble(task.b + at), multiplier_b,
                             _mm256_fmadd_pd(ToDouble(task.a + at), multiplier_a, offset));
    };
    Store(Floor(sum(i), sum(i + 4)), Floor(sum(i + 8), sum(i + 12)), task.zero_point, task.low, task.output + i);
  }
}

const Kernels kAvx2Kernels = {"avx2", kAvx2Lanes, 2, 2, 16, kAvx2Rows, ConvolveAvx2, AddAvx2};

#define SOFT_AVX512 __attribute__((target("avx512f,avx512bw,avx512vl,avx512vnni")))

SOFT_AVX512 inline __m256i FloorWide(__m512d value) {
  return _mm512_cvt_roundpd_epi32(value, _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC);
}

SOFT_AVX512 inline __m256i ScaleWide(__m256i sums, const double* multiplier) {
  return FloorWide(_mm512_fmadd_pd(_mm512_cvtepi32_pd(sums), _mm512_loadu_pd(multiplier), _mm512_set1_pd(0.5)));
}

/// Adds the zero point, clamps and stores 32 values.
SOFT_AVX512 inline void StoreWide(__m256i first, __m256i second, __m256i third, __m256i fourth, int32_t zero_point,
                                  int32_t low, uint8_t* output) {
  const __m256i offset = _mm256_set1_epi16(static_cast<int16_t>(zero_point));
  const __m256i lower = _mm256_adds_epi16(_mm256_packs_epi32(first, second), offset);
  const __m256i upper = _mm256_adds_epi16(_mm256_packs_epi32(third, fourth), offset);
  // The packing takes its 128-bit halves apart.
  const __m256i bytes =
      _mm256_permutevar8x32_epi32(_mm256_packus_epi16(lower, upper), _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(output),
                      _mm256_max_epu8(bytes, _mm256_set1_epi8(static_cast<char>(low))));
}

constexpr size_t kAvx512Rows = 5;  // the windows of our networks are a multiple of 5 long

SOFT_AVX512 void ConvolveAvx512(const Convolution& task) {
  const size_t time_step = task.stride * task.input_row, tap_step = task.dilation * task.input_row;
  const auto* block_weights = static_cast<const int8_t*>(task.weights);
  for (size_t channel = 0; channel < task.output_row; channel += kLanes) {
    const __m512i bias0 = _mm512_loadu_si512(task.bias + channel);
    const __m512i bias1 = _mm512_loadu_si512(task.bias + channel + kLanes / 2);
    for (size_t t = 0; t < task.length; t += kAvx512Rows) {
      const uint8_t* rows[kAvx512Rows];  // behind the end the last one once more
      __m512i sums[kAvx512Rows][2];
#pragma GCC unroll 5
      for (size_t row = 0; row < kAvx512Rows; row++) {
        rows[row] = task.input + std::min(t + row, task.length - 1) * time_step;
        sums[row][0] = bias0;
        sums[row][1] = bias1;
      }
      const int8_t* weights = block_weights;
      for (size_t tap = 0; tap < task.taps; tap++) {
        for (size_t i = 0; i < task.channels; i += 4, weights += 4 * kLanes) {
          const __m512i weights0 = _mm512_loadu_si512(weights), weights1 = _mm512_loadu_si512(weights + 2 * kLanes);
#pragma GCC unroll 5
          for (size_t row = 0; row < kAvx512Rows; row++) {
            int32_t four;
            std::memcpy(&four, rows[row] + tap * tap_step + i, sizeof four);
            const __m512i inputs = _mm512_set1_epi32(four);
            sums[row][0] = _mm512_dpbusd_epi32(sums[row][0], inputs, weights0);
            sums[row][1] = _mm512_dpbusd_epi32(sums[row][1], inputs, weights1);
          }
        }
      }
#pragma GCC unroll 5
      for (size_t row = 0; row < kAvx512Rows; row++) {
        if (t + row == task.length) break;
        const double* const multiplier = task.multiplier + channel;
        StoreWide(ScaleWide(_mm512_castsi512_si256(sums[row][0]), multiplier),
                  ScaleWide(_mm512_extracti64x4_epi64(sums[row][0], 1), multiplier + 8),
                  ScaleWide(_mm512_castsi512_si256(sums[row][1]), multiplier + 16),
                  ScaleWide(_mm512_extracti64x4_epi64(sums[row][1], 1), multiplier + 24), task.zero_point, task.low,
                  task.output + (t + row) * task.output_row + channel);
      }
    }
    block_weights += task.taps * task.channels * kLanes;
  }
}

SOFT_AVX512 inline __m512d ToWideDouble(const uint8_t* values) {
  return _mm512_cvtepi32_pd(_mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(values))));
}

SOFT_AVX512 void AddAvx512(const Addition& task) {
  const __m512d multiplier_a = _mm512_set1_pd(task.multiplier_a), multiplier_b = _mm512_set1_pd(task.multiplier_b);
  const __m512d offset = _mm512_set1_pd(task.offset);
  const auto sum = [&](size_t at) SOFT_AVX512 {
    return FloorWide(_mm512_fmadd_pd(ToWideDouble(task.b + at), multiplier_b,
                                     _mm512_fmadd_pd(ToWideDouble(task.a + at), multiplier_a, offset)));
  };
  for (size_t i = 0; i < task.count; i += kLanes) {
    StoreWide(sum(i), sum(i + 8), sum(i + 16), sum(i + 24), task.zero_point, task.low, task.output + i);
  }
}

const Kernels kAvx512Kernels = {"avx512", kLanes, 4, 1, 4, 0, ConvolveAvx512, AddAvx512};

#elif defined(__aarch64__)

inline int32x2_t FloorNeon(float64x2_t value) { return vmovn_s64(vcvtmq_s64_f64(value)); }

inline float64x2_t ToDouble(int32x2_t values) { return vcvtq_f64_s64(vmovl_s32(values)); }

/// Adds the zero point, clamps and stores 8 values.
inline void StoreNeon(int32x4_t first, int32x4_t second, int32_t zero_point, int32_t low, uint8_t* output) {
  const int32x4_t offset = vdupq_n_s32(zero_point);
  const int16x8_t words = vcombine_s16(vqmovn_s32(vaddq_s32(first, offset)), vqmovn_s32(vaddq_s32(second, offset)));
  vst1_u8(output, vmax_u8(vqmovun_s16(words), vdup_n_u8(static_cast<uint8_t>(low))));
}

inline int32x4_t ScaleNeon(int32x4_t sums, const double* multiplier) {
  const float64x2_t half = vdupq_n_f64(0.5);
  const float64x2_t first = vfmaq_f64(half, ToDouble(vget_low_s32(sums)), vld1q_f64(multiplier));
  const float64x2_t second = vfmaq_f64(half, ToDouble(vget_high_s32(sums)), vld1q_f64(multiplier + 2));
  return vcombine_s32(FloorNeon(first), FloorNeon(second));
}

constexpr size_t kNeonRows = 4, kNeonLanes = 16;

void MultiplyNeon(const Product& product) {
  const Convolution& task = product.task;
  const auto* weights = static_cast<const int16_t*>(task.weights);
  for (size_t block = 0; block < task.output_row; block += kNeonLanes) {
    const int16_t* patch = product.patches;
    int32x4_t sums[kNeonRows][4];
#pragma GCC unroll 4
    for (size_t row = 0; row < kNeonRows; row++) {
#pragma GCC unroll 4
      for (size_t part = 0; part < 4; part++) sums[row][part] = vld1q_s32(task.bias + block + 4 * part);
    }
    for (size_t i = 0; i < product.depth; i++, patch++, weights += kNeonLanes) {
      const int16x8_t weights0 = vld1q_s16(weights), weights1 = vld1q_s16(weights + 8);
#pragma GCC unroll 4
      for (size_t row = 0; row < kNeonRows; row++) {
        const int16_t input = patch[row * product.depth];
        sums[row][0] = vmlal_n_s16(sums[row][0], vget_low_s16(weights0), input);
        sums[row][1] = vmlal_n_s16(sums[row][1], vget_high_s16(weights0), input);
        sums[row][2] = vmlal_n_s16(sums[row][2], vget_low_s16(weights1), input);
        sums[row][3] = vmlal_n_s16(sums[row][3], vget_high_s16(weights1), input);
      }
    }
#pragma GCC unroll 4
    for (size_t row = 0; row < kNeonRows; row++) {
      if (row == product.rows) break;
      uint8_t* const output = product.output + row * task.output_row + block;
      const double* const multiplier = task.multiplier + block;
      StoreNeon(ScaleNeon(sums[row][0], multiplier), ScaleNeon(sums[row][1], multiplier + 4), task.zero_point, task.low,
                output);
      StoreNeon(ScaleNeon(sums[row][2], multiplier + 8), ScaleNeon(sums[row][3], multiplier + 12), task.zero_point,
                task.low, output + 8);
    }
  }
}

void ConvolveNeon(const Convolution& task) { ConvolveInPatches<kNeonRows>(task, MultiplyNeon); }

void AddNeon(const Addition& task) {
  const auto sum = [&](int32x2_t a, int32x2_t b) {
    const float64x2_t partial = vfmaq_n_f64(vdupq_n_f64(task.offset), ToDouble(a), task.multiplier_a);
    return FloorNeon(vfmaq_n_f64(partial, ToDouble(b), task.multiplier_b));
  };
  const auto four = [&](uint16x4_t a, uint16x4_t b) {
    const int32x4_t wide_a = vreinterpretq_s32_u32(vmovl_u16(a)), wide_b = vreinterpretq_s32_u32(vmovl_u16(b));
    return vcombine_s32(sum(vget_low_s32(wide_a), vget_low_s32(wide_b)),
                        sum(vget_high_s32(wide_a), vget_high_s32(wide_b)));
  };
  for (size_t i = 0; i < task.count; i += 8) {
    const uint16x8_t a = vmovl_u8(vld1_u8(task.a + i)), b = vmovl_u8(vld1_u8(task.b + i));
    StoreNeon(four(vget_low_u16(a), vget_low_u16(b)), four(vget_high_u16(a), vget_high_u16(b)), task.zero_point,
              task.low, task.output + i);
  }
}

const Kernels kNeonKernels = {"neon", kNeonLanes, 1, 2, 16, kNeonRows, ConvolveNeon, AddNeon};

#endif

/// What this CPU can run, the best first.
std::vector<const Kernels*> UsableKernels() {
  std::vector<const Kernels*> usable;
#if defined(__x86_64__)
  const bool has_avx512 = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                          __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512vnni");
  if (has_avx512) usable.push_back(&kAvx512Kernels);
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) usable.push_back(&kAvx2Kernels);
#elif defined(__aarch64__)
  usable.push_back(&kNeonKernels);
#endif
  usable.push_back(&kPortableKernels);
  return usable;
}

const Kernels& ChooseKernels() {
  const std::vector<const Kernels*> usable = UsableKernels();
  const char* const wanted = EnvironmentOr("SOFTHAILORT_SIMD", usable[0]->name);
  if (std::strcmp(wanted, "off") == 0) return kPortableKernels;
  for (const Kernels* kernels : usable) {
    if (std::strcmp(wanted, kernels->name) == 0) return *kernels;
  }
  std::fprintf(stderr, "softhailort: SOFTHAILORT_SIMD=%s is not for this CPU, using %s\n", wanted, usable[0]->name);
  return *usable[0];
}

}  // namespace

const Kernels& BestKernels() {
  static const Kernels& kernels = ChooseKernels();
  return kernels;
}

}  // namespace soft
