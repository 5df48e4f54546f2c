// The three checksums of HEF headers.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

namespace soft {

/// RFC 1321. Header version 0.
std::array<uint8_t, 16> Md5(const uint8_t* data, size_t bytes);

/// IEEE 802.3, reflected, as in zlib. Header version 1.
uint32_t Crc32(const uint8_t* data, size_t bytes);

/// XXH3, 64 bits, seed 0. Header versions 2 and 3.
/// @param bytes more than 240: the shorter inputs have algorithms of their own, and no HEF is that short.
uint64_t Xxh3(const uint8_t* data, size_t bytes);

}  // namespace soft
