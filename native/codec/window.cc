#include "window.h"

#include <array>
#include <charconv>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <iterator>
#include <system_error>

#ifdef __SSE2__
#include <emmintrin.h>
#endif

static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "the first of 8 characters is the lowest byte of a word");

// Compiled twice, and chosen when the addon is loaded: twice as fast with AVX2, which not every x86 has.
#if defined(__x86_64__) && defined(__gnu_linux__)
#define CODEC_WIDE_VECTORS __attribute__((target_clones("avx2", "default")))
#else
#define CODEC_WIDE_VECTORS
#endif

namespace codec {
namespace {

/// By channel, as in src/core/window.ts: m/s² ×3, rad/s ×3, µT ×3.
constexpr std::array<float, kChannels> kLimits = {500, 500, 500, 35, 35, 35, 2000, 2000, 2000};

/// Of 4 rows: whole vectors of 4 or 12 values, without arithmetic on indices.
constexpr auto kLimitsOfRows = [] {
  std::array<float, 4 * kChannels> limits{};
  for (size_t i = 0; i < limits.size(); i++) limits[i] = kLimits[i % kChannels];
  return limits;
}();
static_assert(kWindowValues % kLimitsOfRows.size() == 0);

/// A little below the limits, where arithmetic cannot err about which side a number is on.
constexpr auto kSureLimits = [] {
  std::array<double, kChannels> limits{};
  for (size_t i = 0; i < limits.size(); i++) limits[i] = kLimits[i] * (1 - 0x1p-40);
  return limits;
}();

/// Each the nearest double.
constexpr double kFractions[] = {
    1e0,   1e-1,  1e-2,  1e-3,  1e-4,  1e-5,  1e-6,  1e-7,  1e-8,  1e-9,  1e-10, 1e-11, 1e-12,
    1e-13, 1e-14, 1e-15, 1e-16, 1e-17, 1e-18, 1e-19, 1e-20, 1e-21, 1e-22, 1e-23, 1e-24,
};
constexpr uint64_t kPowers[] = {1, 10, 100, 1'000, 10'000, 100'000, 1'000'000, 10'000'000, 100'000'000};

/// More could overflow an int64.
constexpr size_t kMostDigits = 18;
/// Before the point: the largest limit has 4.
constexpr size_t kMostWholeDigits = 4;
/// Behind it. A float64 in the shortest notation has up to 21, with the zeros that it begins with.
constexpr size_t kMostFractionDigits = std::size(kFractions) - 1;

/// No token reads further than this from where it begins. Number(): 32 characters, then e, sign and 32.
constexpr ptrdiff_t kRoom = 80;

/// Of 32 characters: bit i is set when character i is no digit.
inline uint32_t OthersAt(const char* text) {
#ifdef __SSE2__
  const auto others = [text](int offset) {
    const __m128i chars = _mm_loadu_si128(reinterpret_cast<const __m128i*>(text + offset));
    const __m128i values = _mm_sub_epi8(chars, _mm_set1_epi8('0'));
    return static_cast<uint32_t>(_mm_movemask_epi8(_mm_cmpeq_epi8(values, _mm_max_epu8(values, _mm_set1_epi8(10)))));
  };
  return others(0) | others(16) << 16;
#else
  uint32_t others = 0;
  for (int offset = 0; offset < 32; offset += 8) {
    uint64_t word;
    std::memcpy(&word, text + offset, sizeof word);
    word ^= 0x3030303030303030;
    const uint64_t high_bits = (word | ((word & 0x7f7f7f7f7f7f7f7f) + 0x7676767676767676)) & 0x8080808080808080;
    others |= static_cast<uint32_t>((high_bits >> 7) * 0x0102040810204080 >> 56) << offset;
  }
  return others;
#endif
}

/// @param count of digits at `text`, 1 to 8; 8 characters are read
inline uint64_t ValueOf(const char* text, size_t count) {
  uint64_t word;
  std::memcpy(&word, text, sizeof word);
  word = (word ^ 0x3030303030303030) << (64 - 8 * count);  // zeros in front
  word = word * 10 + (word >> 8);                          // a number of two digits in every other byte
  constexpr uint64_t kPairs = 0x000000ff000000ff;
  word = (word & kPairs) * (100 + (1'000'000ull << 32)) + (word >> 16 & kPairs) * (1 + (10'000ull << 32));
  return word >> 32;
}

/// @param count of digits at `text`, 1 to 4; 4 characters are read
inline uint64_t ShortValueOf(const char* text, size_t count) {
  uint32_t word;
  std::memcpy(&word, text, sizeof word);
  word = (word ^ 0x30303030) << (32 - 8 * count);
  word = (word * 10 + (word >> 8)) & 0x00ff00ff;
  return (word * 100 + (word >> 16)) & 0xffff;
}

/// Whether every float64 as near to `value` as arithmetic can err is rounded to the same float32, which is not
/// subnormal: not when it is about halfway between two of them.
inline bool IsSurelyRounded(double value) {
  uint64_t bits;
  std::memcpy(&bits, &value, sizeof bits);
  constexpr uint32_t kHalfway = 1 << 28;  // of the 29 bits that a float32 has not
  constexpr uint32_t kMargin = 16;
  return (static_cast<uint32_t>(bits) & (2 * kHalfway - 1)) - (kHalfway - kMargin) > 2 * kMargin;
}

inline float WithSign(float magnitude, bool is_negative) {
  uint32_t bits;
  std::memcpy(&bits, &magnitude, sizeof bits);
  bits |= static_cast<uint32_t>(is_negative) << 31;  // half of the numbers have one: a branch would be guessed wrongly
  std::memcpy(&magnitude, &bits, sizeof bits);
  return magnitude;
}

/// Goes through a text without asking at each character whether it has ended: `kRoom` bytes can always be read. Where
/// the text has fewer, it goes on in a copy of its last bytes with zeros behind, which no token takes.
class Reader {
 public:
  struct Rest {
    char bytes[2 * kRoom];
  };

  /// @param rest for the copy
  Reader(std::string_view text, Rest* rest)
      : at_(text.data()), end_(at_ + text.size()), readable_(end_), rest_(rest->bytes) {
    KeepRoom();
  }

  /// Skips blanks, then `c`.
  bool Skip(char c) {
    SkipBlanks();
    if (*at_ != c) return false;
    at_++;
    return true;
  }

  /// Skips blanks, then `key` in quotes. @param key shorter than kRoom / 2
  bool SkipKey(std::string_view key) {
    if (!Skip('"') || std::memcmp(at_, key.data(), key.size()) != 0 || at_[key.size()] != '"') return false;
    at_ += key.size() + 1;
    KeepRoom();
    return true;
  }

  /// Whether there are only blanks from here on.
  bool AtEnd() {
    SkipBlanks();
    KeepRoom();
    return at_ == end_;
  }

  /// Skips blanks, then a number that the sensor of this channel can give.
  bool Number(size_t channel, float* value) {
    SkipBlanks();
    KeepRoom();
    const bool is_negative = *at_ == '-';
    const char* const begin = at_ + is_negative;
    const uint32_t others = OthersAt(at_) & ~static_cast<uint32_t>(is_negative);
    const uint32_t behind = others & (others - 1);
    if (behind == 0) return false;
    const size_t whole = __builtin_ctz(others) - is_negative;
    if (whole - 1 >= kMostWholeDigits || *begin - '0' < (whole > 1)) return false;  // a zero only alone
    uint64_t mantissa = ShortValueOf(begin, whole);
    size_t fraction = 0;
    const char* end = begin + whole;
    if (*end == '.') {
      end = at_ + __builtin_ctz(behind);
      fraction = end - begin - whole - 1;
      if (fraction - 1 >= kMostFractionDigits) return false;
      size_t left = fraction;
      for (; left > 8; left -= 8) mantissa = mantissa * kPowers[8] + ValueOf(end - left, 8);
      mantissa = mantissa * kPowers[left] + ValueOf(end - left, left);
    }
    at_ = end;

    const bool has_exponent = (*at_ | 0x20) == 'e';
    if (has_exponent && !SkipExponent()) return false;

    // Three roundings: at most 2 units in the last place from the number, which JSON.parse() rounds once.
    double magnitude = static_cast<double>(static_cast<int64_t>(mantissa)) * kFractions[fraction];
    const bool is_long = whole + fraction > kMostDigits && SignificantDigits(begin, end) > kMostDigits;
    if (has_exponent || is_long || !IsSurelyRounded(magnitude) || magnitude > kSureLimits[channel]) {
      if (std::from_chars(begin, at_, magnitude).ec != std::errc() || magnitude > kLimits[channel]) return false;
    }
    *value = WithSign(static_cast<float>(magnitude), is_negative);
    return true;
  }

 private:
  void SkipBlanks() {
    while (*at_ == ' ' || *at_ == '\n' || *at_ == '\r' || *at_ == '\t') {
      at_++;
      KeepRoom();
    }
  }

  void KeepRoom() {
    if (readable_ - at_ < kRoom) *this = MovedToRest(*this);
  }

  /// By value, so that a reader can live in registers.
  static Reader MovedToRest(Reader reader) {
    const size_t left = reader.end_ - reader.at_;
    std::memcpy(reader.rest_, reader.at_, left);
    std::memset(reader.rest_ + left, 0, sizeof(Rest) - left);
    reader.at_ = reader.rest_;
    reader.end_ = reader.rest_ + left;
    reader.readable_ = reader.rest_ + sizeof(Rest);
    return reader;
  }

  /// e or E, a sign or none, digits.
  bool SkipExponent() {
    at_++;
    at_ += *at_ == '-' || *at_ == '+';
    const uint32_t others = OthersAt(at_);
    if (others == 0 || (others & 1) != 0) return false;
    at_ += __builtin_ctz(others);
    return true;
  }

  static size_t SignificantDigits(const char* begin, const char* end) {
    while (begin < end && (*begin == '0' || *begin == '.')) begin++;
    return end - begin;  // one more where the point is among them
  }

  const char* at_;
  const char* end_;
  const char* readable_;
  char* rest_;
};

bool ReadRows(Reader* whole, float* window) {
  Reader reader = *whole;
  if (!reader.Skip('[')) return false;
  for (size_t step = 0; step < kTimesteps; step++) {
    if (step > 0 && !reader.Skip(',')) return false;
    for (size_t channel = 0; channel < kChannels; channel++) {
      if (!reader.Skip(channel == 0 ? '[' : ',') || !reader.Number(channel, window++)) return false;
    }
    if (!reader.Skip(']')) return false;
  }
  if (!reader.Skip(']')) return false;
  *whole = reader;
  return true;
}

}  // namespace

CODEC_WIDE_VECTORS
bool CopyWindow(const void* bytes, float* window) {
  const char* __restrict from = static_cast<const char*>(bytes);
  float* __restrict to = window;
  int bad = 0;
  for (size_t rows = 0; rows < kWindowValues; rows += kLimitsOfRows.size()) {
    for (size_t i = 0; i < kLimitsOfRows.size(); i++) {
      float value;
      std::memcpy(&value, from + (rows + i) * sizeof value, sizeof value);
      to[rows + i] = value;
      bad |= !(std::fabs(value) <= kLimitsOfRows[i]);  // NaN is not
    }
  }
  return bad == 0;
}

bool ParseWindow(std::string_view text, std::string_view key, float* window) {
  Reader::Rest rest;
  Reader reader(text, &rest);
  return key.size() < kRoom / 2 && reader.Skip('{') && reader.SkipKey(key) && reader.Skip(':') &&
         ReadRows(&reader, window) && reader.Skip('}') && reader.AtEnd();
}

bool ParseRows(std::string_view text, float* window) {
  Reader::Rest rest;
  Reader reader(text, &rest);
  return ReadRows(&reader, window) && reader.AtEnd();
}

}  // namespace codec
