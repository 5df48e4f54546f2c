#include "checksum.h"

#include <cassert>
#include <cmath>
#include <cstring>

namespace soft {
namespace {

uint32_t Load32(const uint8_t* from) {
  return uint32_t{from[0]} | uint32_t{from[1]} << 8 | uint32_t{from[2]} << 16 | uint32_t{from[3]} << 24;
}

uint64_t Load64(const uint8_t* from) { return Load32(from) | uint64_t{Load32(from + 4)} << 32; }

uint32_t RotateLeft(uint32_t value, int bits) { return value << bits | value >> (32 - bits); }

void Md5Block(uint32_t state[4], const uint8_t* block) {
  static constexpr int kRotation[4][4] = {{7, 12, 17, 22}, {5, 9, 14, 20}, {4, 11, 16, 23}, {6, 10, 15, 21}};
  static const auto sines = [] {
    std::array<uint32_t, 64> table{};
    for (int i = 0; i < 64; i++)
      table[i] = static_cast<uint32_t>(std::floor(std::fabs(std::sin(i + 1.0)) * 4294967296.0));
    return table;
  }();
  uint32_t a = state[0], b = state[1], c = state[2], d = state[3];
  for (int i = 0; i < 64; i++) {
    uint32_t mix;
    int word;
    switch (i / 16) {
      case 0:
        mix = (b & c) | (~b & d), word = i;
        break;
      case 1:
        mix = (d & b) | (~d & c), word = (5 * i + 1) % 16;
        break;
      case 2:
        mix = b ^ c ^ d, word = (3 * i + 5) % 16;
        break;
      default:
        mix = c ^ (b | ~d), word = 7 * i % 16;
        break;
    }
    const uint32_t sum = a + mix + sines[i] + Load32(block + 4 * word);
    a = d, d = c, c = b;
    b += RotateLeft(sum, kRotation[i / 16][i % 4]);
  }
  state[0] += a, state[1] += b, state[2] += c, state[3] += d;
}

constexpr uint64_t kPrime32_1 = 0x9E3779B1, kPrime32_2 = 0x85EBCA77, kPrime32_3 = 0xC2B2AE3D;
constexpr uint64_t kPrime64_1 = 0x9E3779B185EBCA87, kPrime64_2 = 0xC2B2AE3D27D4EB4F, kPrime64_3 = 0x165667B19E3779F9,
                   kPrime64_4 = 0x85EBCA77C2B2AE63, kPrime64_5 = 0x27D4EB2F165667C5;

// The default secret of the XXH3 specification.
constexpr uint8_t kSecret[192] = {
    0xb8, 0xfe, 0x6c, 0x39, 0x23, 0xa4, 0x4b, 0xbe, 0x7c, 0x01, 0x81, 0x2c, 0xf7, 0x21, 0xad, 0x1c, 0xde, 0xd4,
    0x6d, 0xe9, 0x83, 0x90, 0x97, 0xdb, 0x72, 0x40, 0xa4, 0xa4, 0xb7, 0xb3, 0x67, 0x1f, 0xcb, 0x79, 0xe6, 0x4e,
    0xcc, 0xc0, 0xe5, 0x78, 0x82, 0x5a, 0xd0, 0x7d, 0xcc, 0xff, 0x72, 0x21, 0xb8, 0x08, 0x46, 0x74, 0xf7, 0x43,
    0x24, 0x8e, 0xe0, 0x35, 0x90, 0xe6, 0x81, 0x3a, 0x26, 0x4c, 0x3c, 0x28, 0x52, 0xbb, 0x91, 0xc3, 0x00, 0xcb,
    0x88, 0xd0, 0x65, 0x8b, 0x1b, 0x53, 0x2e, 0xa3, 0x71, 0x64, 0x48, 0x97, 0xa2, 0x0d, 0xf9, 0x4e, 0x38, 0x19,
    0xef, 0x46, 0xa9, 0xde, 0xac, 0xd8, 0xa8, 0xfa, 0x76, 0x3f, 0xe3, 0x9c, 0x34, 0x3f, 0xf9, 0xdc, 0xbb, 0xc7,
    0xc7, 0x0b, 0x4f, 0x1d, 0x8a, 0x51, 0xe0, 0x4b, 0xcd, 0xb4, 0x59, 0x31, 0xc8, 0x9f, 0x7e, 0xc9, 0xd9, 0x78,
    0x73, 0x64, 0xea, 0xc5, 0xac, 0x83, 0x34, 0xd3, 0xeb, 0xc3, 0xc5, 0x81, 0xa0, 0xff, 0xfa, 0x13, 0x63, 0xeb,
    0x17, 0x0d, 0xdd, 0x51, 0xb7, 0xf0, 0xda, 0x49, 0xd3, 0x16, 0x55, 0x26, 0x29, 0xd4, 0x68, 0x9e, 0x2b, 0x16,
    0xbe, 0x58, 0x7d, 0x47, 0xa1, 0xfc, 0x8f, 0xf8, 0xb8, 0xd1, 0x7a, 0xd0, 0x31, 0xce, 0x45, 0xcb, 0x3a, 0x8f,
    0x95, 0x16, 0x04, 0x28, 0xaf, 0xd7, 0xfb, 0xca, 0xbb, 0x4b, 0x40, 0x7e,
};
constexpr size_t kStripe = 64;
constexpr size_t kStripesPerBlock = (sizeof(kSecret) - kStripe) / 8;

void Accumulate(uint64_t lanes[8], const uint8_t* stripe, const uint8_t* secret) {
  for (int i = 0; i < 8; i++) {
    const uint64_t value = Load64(stripe + 8 * i);
    const uint64_t keyed = value ^ Load64(secret + 8 * i);
    lanes[i ^ 1] += value;
    lanes[i] += (keyed & 0xFFFFFFFF) * (keyed >> 32);
  }
}

void Scramble(uint64_t lanes[8]) {
  for (int i = 0; i < 8; i++) {
    lanes[i] ^= lanes[i] >> 47;
    lanes[i] ^= Load64(kSecret + sizeof(kSecret) - kStripe + 8 * i);
    lanes[i] *= kPrime32_1;
  }
}

/// The two halves of the 128-bit product, exclusive or.
uint64_t MultiplyAndFold(uint64_t a, uint64_t b) {
  const uint64_t a_low = a & 0xFFFFFFFF, a_high = a >> 32, b_low = b & 0xFFFFFFFF, b_high = b >> 32;
  const uint64_t low = a_low * b_low, middle1 = a_high * b_low, middle2 = a_low * b_high;
  const uint64_t carry = (low >> 32) + (middle1 & 0xFFFFFFFF) + middle2;
  return (carry << 32 | (low & 0xFFFFFFFF)) ^ ((middle1 >> 32) + (carry >> 32) + a_high * b_high);
}

}  // namespace

std::array<uint8_t, 16> Md5(const uint8_t* data, size_t bytes) {
  uint32_t state[4] = {0x67452301, 0xefcdab89, 0x98badcfe, 0x10325476};
  size_t done = 0;
  for (; bytes - done >= 64; done += 64) Md5Block(state, data + done);

  // The rest, a 1 bit, zeros, and the length in bits fill one or two more blocks.
  uint8_t tail[128] = {};
  const size_t rest = bytes - done;
  if (rest > 0) std::memcpy(tail, data + done, rest);
  tail[rest] = 0x80;
  const size_t tail_bytes = rest < 56 ? 64 : 128;
  for (int i = 0; i < 8; i++) tail[tail_bytes - 8 + i] = static_cast<uint8_t>(uint64_t{bytes} * 8 >> (8 * i));
  for (size_t at = 0; at < tail_bytes; at += 64) Md5Block(state, tail + at);

  std::array<uint8_t, 16> digest;
  for (size_t i = 0; i < 16; i++) digest[i] = static_cast<uint8_t>(state[i / 4] >> (8 * (i % 4)));
  return digest;
}

uint32_t Crc32(const uint8_t* data, size_t bytes) {
  static const auto table = [] {
    std::array<uint32_t, 256> remainders{};
    for (uint32_t i = 0; i < 256; i++) {
      uint32_t remainder = i;
      for (int bit = 0; bit < 8; bit++) remainder = (remainder >> 1) ^ ((remainder & 1) != 0 ? 0xEDB88320 : 0);
      remainders[i] = remainder;
    }
    return remainders;
  }();
  uint32_t crc = 0xFFFFFFFF;
  for (size_t i = 0; i < bytes; i++) crc = table[(crc ^ data[i]) & 0xFF] ^ crc >> 8;
  return ~crc;
}

uint64_t Xxh3(const uint8_t* data, size_t bytes) {
  assert(bytes > 240);
  uint64_t lanes[8] = {kPrime32_3, kPrime64_1, kPrime64_2, kPrime64_3, kPrime64_4, kPrime32_2, kPrime64_5, kPrime32_1};

  // The last byte always belongs to the last stripe, which may overlap the one before it.
  const size_t stripes = (bytes - 1) / kStripe;
  for (size_t stripe = 0; stripe < stripes; stripe++) {
    Accumulate(lanes, data + stripe * kStripe, kSecret + 8 * (stripe % kStripesPerBlock));
    if (stripe % kStripesPerBlock == kStripesPerBlock - 1) Scramble(lanes);
  }
  Accumulate(lanes, data + bytes - kStripe, kSecret + sizeof(kSecret) - kStripe - 7);

  uint64_t hash = bytes * kPrime64_1;
  for (int i = 0; i < 4; i++) {
    hash +=
        MultiplyAndFold(lanes[2 * i] ^ Load64(kSecret + 11 + 16 * i), lanes[2 * i + 1] ^ Load64(kSecret + 19 + 16 * i));
  }
  hash ^= hash >> 37;
  hash *= 0x165667919E3779F9;
  return hash ^ hash >> 32;
}

}  // namespace soft
