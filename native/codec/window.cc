#include "window.h"

#include <array>
#include <charconv>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <iterator>
#include <limits>
#include <system_error>

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

/// 10^-64 … 10^22, each the nearest double.
constexpr int kSmallestPower = -64;
constexpr int kLargestPower = 22;
constexpr double kPowers[] = {
    1e-64, 1e-63, 1e-62, 1e-61, 1e-60, 1e-59, 1e-58, 1e-57, 1e-56, 1e-55, 1e-54, 1e-53, 1e-52, 1e-51, 1e-50,
    1e-49, 1e-48, 1e-47, 1e-46, 1e-45, 1e-44, 1e-43, 1e-42, 1e-41, 1e-40, 1e-39, 1e-38, 1e-37, 1e-36, 1e-35,
    1e-34, 1e-33, 1e-32, 1e-31, 1e-30, 1e-29, 1e-28, 1e-27, 1e-26, 1e-25, 1e-24, 1e-23, 1e-22, 1e-21, 1e-20,
    1e-19, 1e-18, 1e-17, 1e-16, 1e-15, 1e-14, 1e-13, 1e-12, 1e-11, 1e-10, 1e-9,  1e-8,  1e-7,  1e-6,  1e-5,
    1e-4,  1e-3,  1e-2,  1e-1,  1e0,   1e1,   1e2,   1e3,   1e4,   1e5,   1e6,   1e7,   1e8,   1e9,   1e10,
    1e11,  1e12,  1e13,  1e14,  1e15,  1e16,  1e17,  1e18,  1e19,  1e20,  1e21,  1e22,
};
static_assert(std::size(kPowers) == kLargestPower - kSmallestPower + 1);

constexpr uint64_t kWholePowers[] = {1, 10, 100, 1'000, 10'000, 100'000, 1'000'000, 10'000'000, 100'000'000};

/// More could overflow an int64.
constexpr int64_t kMostDigits = 18;

/// Where arithmetic does not get near enough, and std::from_chars() must decide.
constexpr double kUnknown = std::numeric_limits<double>::infinity();
/// At the limit itself arithmetic may err.
constexpr double kBelow = 1 - 0x1p-40;

/// No token reads further than this from where it begins. Number(): sign, 7 digits, point, 3 × 8 digits, e, sign and 8.
constexpr ptrdiff_t kRoom = 64;

/// The digits that 8 characters begin with.
struct Digits {
  uint64_t value;
  int count;
};

inline Digits DigitsAt(const char* text) {
  uint64_t word;
  std::memcpy(&word, text, sizeof word);
  word ^= 0x3030303030303030;
  // The high bit of each byte that is no digit; a carry spoils only what is behind the first of them.
  const uint64_t others = (word | (word + 0x7676767676767676)) & 0x8080808080808080;
  const int count = others == 0 ? 8 : __builtin_ctzll(others) / 8;
  const int missing_bits = 64 - 8 * count;
  word = word << missing_bits / 2 << missing_bits / 2;  // zeros in front; in two halves, as 64 at once is undefined
  word = word * 10 + (word >> 8);                       // a number of two digits in every other byte
  constexpr uint64_t kPairs = 0x000000ff000000ff;
  const uint64_t value =
      (word & kPairs) * (100 + (1'000'000ull << 32)) + (word >> 16 & kPairs) * (1 + (10'000ull << 32));
  return {value >> 32, count};
}

/// Whether every float64 as near to `value` as arithmetic can err is rounded to the same float32. Not when it is about
/// halfway between two of them, nor where float32 are subnormal and so further apart.
inline bool IsSurelyRounded(double value) {
  uint64_t bits;
  std::memcpy(&bits, &value, sizeof bits);
  constexpr uint64_t kHalfway = 1 << 28;  // of the 29 bits that a float32 has not
  constexpr uint64_t kMargin = 16;
  if ((bits & (2 * kHalfway - 1)) - (kHalfway - kMargin) <= 2 * kMargin) return false;
  return value >= 0x1p-126 || value == 0;
}

/// Goes through a text without asking at each character whether it has ended: `kRoom` bytes can always be read. Where
/// the text has fewer, it goes on in a copy of its last bytes with zeros behind, which no token takes.
class Reader {
 public:
  explicit Reader(std::string_view text) : at_(text.data()), end_(at_ + text.size()), readable_(end_) { KeepRoom(); }
  Reader(const Reader&) = delete;
  Reader& operator=(const Reader&) = delete;

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

  /// Skips blanks, then a number that is within ±limit.
  bool Number(double limit, float* value) {
    SkipBlanks();
    KeepRoom();
    const bool is_negative = *at_ == '-';
    at_ += is_negative;

    const char* const begin = at_;
    uint64_t mantissa = 0;
    Append(DigitsAt(at_), &mantissa);
    const ptrdiff_t whole = at_ - begin;
    if (whole == 0 || whole == 8 || (*begin == '0' && whole > 1)) return false;
    bool is_short = true;
    int64_t exponent = 0;
    if (*at_ == '.') {
      const char* const fraction = ++at_;
      Append(DigitsAt(at_), &mantissa);
      if (at_ - fraction == 8) {
        Append(DigitsAt(at_), &mantissa);
        Append(DigitsAt(at_), &mantissa);  // mostly of one digit or none: not worth a branch
      }
      exponent = fraction - at_;
      if (exponent == 0) return false;
      is_short = whole - exponent <= kMostDigits || SignificantDigits(begin) <= kMostDigits;
    }
    if ((*at_ | 0x20) == 'e' && !AddExponent(&exponent)) return false;

    double magnitude = kUnknown;
    if (is_short && exponent >= kSmallestPower && exponent <= kLargestPower) {
      // Three roundings: at most 2 units in the last place from the number, which JSON.parse() rounds once.
      magnitude = static_cast<double>(static_cast<int64_t>(mantissa)) * kPowers[exponent - kSmallestPower];
    }
    if (!IsSurelyRounded(magnitude) || magnitude > limit * kBelow) {
      if (std::from_chars(begin, at_, magnitude).ec != std::errc() || magnitude > limit) return false;
    }
    *value = static_cast<float>(is_negative ? -magnitude : magnitude);
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
    if (readable_ - at_ < kRoom) MoveToRest();
  }

  void MoveToRest() {
    const size_t left = end_ - at_;
    std::memcpy(rest_, at_, left);
    std::memset(rest_ + left, 0, sizeof rest_ - left);
    at_ = rest_;
    end_ = rest_ + left;
    readable_ = rest_ + sizeof rest_;
  }

  void Append(Digits digits, uint64_t* mantissa) {
    *mantissa = *mantissa * kWholePowers[digits.count] + digits.value;
    at_ += digits.count;
  }

  /// Of the number that began at `begin` and comes to its end at `at_`.
  int64_t SignificantDigits(const char* begin) const {
    while (*begin == '0' || *begin == '.') begin++;
    return at_ - begin;  // one more where the point is among them
  }

  bool AddExponent(int64_t* exponent) {
    at_++;
    const bool is_negative = *at_ == '-';
    at_ += is_negative || *at_ == '+';
    const Digits digits = DigitsAt(at_);
    if (digits.count == 0 || digits.count == 8) return false;
    at_ += digits.count;
    const int64_t value = static_cast<int64_t>(digits.value);
    *exponent += is_negative ? -value : value;
    return true;
  }

  const char* at_;
  const char* end_;
  const char* readable_;
  char rest_[2 * kRoom];
};

bool ReadRows(Reader* reader, float* window) {
  if (!reader->Skip('[')) return false;
  for (size_t step = 0; step < kTimesteps; step++) {
    if (step > 0 && !reader->Skip(',')) return false;
    for (size_t channel = 0; channel < kChannels; channel++) {
      if (!reader->Skip(channel == 0 ? '[' : ',')) return false;
      if (!reader->Number(kLimits[channel], window++)) return false;
    }
    if (!reader->Skip(']')) return false;
  }
  return reader->Skip(']');
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
  Reader reader(text);
  return key.size() < kRoom / 2 && reader.Skip('{') && reader.SkipKey(key) && reader.Skip(':') &&
         ReadRows(&reader, window) && reader.Skip('}') && reader.AtEnd();
}

bool ParseRows(std::string_view text, float* window) {
  Reader reader(text);
  return ReadRows(&reader, window) && reader.AtEnd();
}

}  // namespace codec
