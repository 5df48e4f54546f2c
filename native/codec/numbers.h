// Results as JSON.
#pragma once

#include <cstddef>

namespace codec {

/// Characters of the longest number, "-1.17549435e-38", and a comma; or "-100000000000000000000" of 21 digits.
constexpr size_t kLongestNumber = 24;

/// Writes numbers with commas between them, each with the fewest digits that Math.fround() makes the same float32 of,
/// in the notation of JavaScript; minus zero as -0, and what JSON has no number for as null.
/// @param text `count` × kLongestNumber
/// @returns where the text ends
char* WriteNumbers(const float* values, size_t count, char* text);

}  // namespace codec
