#include "numbers.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstring>
#include <string_view>

namespace codec {
namespace {

char* Write(std::string_view part, char* text) {
  std::memcpy(text, part.data(), part.size());
  return text + part.size();
}

char* WriteZeros(int count, char* text) { return std::fill_n(text, count, '0'); }

/// Number.prototype.toString() has the rules: where the point goes, and when there is an exponent.
char* WriteNumber(float value, char* text) {
  if (!std::isfinite(value)) return Write("null", text);
  if (std::signbit(value)) *text++ = '-';

  char shortest[kLongestNumber];  // d.ddde±dd
  char* const end = std::to_chars(shortest, std::end(shortest), std::fabs(value), std::chars_format::scientific).ptr;
  const char* const e = std::find(shortest + 1, end, 'e');
  int exponent = 0;
  std::from_chars(e[1] == '+' ? e + 2 : e + 1, end, exponent);
  const size_t count = e == shortest + 1 ? 1 : e - shortest - 1;
  shortest[1] = shortest[0];  // over the point, if there is one
  const std::string_view digits(shortest + 1, count);

  const int whole = exponent + 1;  // digits before the point
  const int rest = static_cast<int>(count) - whole;
  if (whole > 21 || whole < -5) {
    *text++ = digits[0];
    if (count > 1) *text++ = '.';
    text = Write(digits.substr(1), text);
    *text++ = 'e';
    *text++ = exponent < 0 ? '-' : '+';
    return std::to_chars(text, text + 2, std::abs(exponent)).ptr;
  }
  if (rest <= 0) return WriteZeros(-rest, Write(digits, text));
  if (whole > 0) {
    text = Write(digits.substr(0, whole), text);
    *text++ = '.';
    return Write(digits.substr(whole), text);
  }
  return Write(digits, WriteZeros(-whole, Write("0.", text)));
}

}  // namespace

char* WriteNumbers(const float* values, size_t count, char* text) {
  for (size_t i = 0; i < count; i++) {
    if (i > 0) *text++ = ',';
    text = WriteNumber(values[i], text);
  }
  return text;
}

}  // namespace codec
