// Windows from the wire into a slot's memory. What is refused here may still be good: the caller has a slower
// reader, which decides and finds the words.
#pragma once

#include <cstddef>
#include <string_view>

namespace codec {

constexpr size_t kTimesteps = 100;
constexpr size_t kChannels = 9;
constexpr size_t kWindowValues = kTimesteps * kChannels;
constexpr size_t kWindowBytes = kWindowValues * sizeof(float);

/// Copies little-endian float32[100][9] and checks it on the way.
/// @param bytes kWindowBytes, at any address
/// @returns whether every value is within what its sensor can give
bool CopyWindow(const void* bytes, float* window);

/// Reads `{"<key>": [100 rows of 9 numbers]}` and nothing else, bit for bit as Math.fround(JSON.parse()) would.
/// @param key without anything that JSON escapes
/// @param window holds rubbish when false is returned
/// @returns whether the text is surely that, with every value within what its sensor can give
bool ParseWindow(std::string_view text, std::string_view key, float* window);

/// The same for the rows alone.
bool ParseRows(std::string_view text, float* window);

}  // namespace codec
