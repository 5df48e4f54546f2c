// The codec over texts that are cut and changed anywhere, each in memory of exactly its length: for sanitizers. A text
// that was left as it is must give its numbers again.
// Usage: codec_fuzz SEED
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <string>

#include "../codec/numbers.h"
#include "../codec/window.h"

namespace {

constexpr int kRounds = 1500;

uint64_t state;

/// xorshift64*
uint32_t RandomBits() {
  state ^= state >> 12;
  state ^= state << 25;
  state ^= state >> 27;
  return static_cast<uint32_t>(state * 0x2545f4914f6cdd1d >> 32);
}

size_t Below(size_t count) { return RandomBits() % count; }

void FillWithAnything(float* values, size_t count) {
  for (size_t i = 0; i < count; i++) {
    const uint32_t bits = RandomBits();
    std::memcpy(&values[i], &bits, sizeof bits);
  }
}

std::string BodyOf(const float* window) {
  std::string body = "{\"x\": [";
  for (size_t step = 0; step < codec::kTimesteps; step++) {
    char row[codec::kChannels * codec::kLongestNumber];
    char* const end = codec::WriteNumbers(window + step * codec::kChannels, codec::kChannels, row);
    body += (step == 0 ? "[" : ", [") + std::string(row, end) + "]";
  }
  return body + "]}";
}

void Mutate(std::string* body) {
  constexpr char kPieces[] = "0123456789-+.eE,[]{}\": \n\0\xff";
  const size_t size = body->size();
  const size_t at = Below(2) == 0 ? Below(size) : size - 1 - Below(size < 200 ? size : 200);
  const char piece = kPieces[Below(sizeof kPieces)];
  switch (Below(4)) {
    case 0:
      body->resize(at);
      break;
    case 1:
      body->erase(at, Below(30));
      break;
    case 2:
      body->insert(at, Below(100), piece);
      break;
    default:
      (*body)[at] = piece;
  }
}

/// In memory of its own, which begins at any address and ends where the text does.
bool Parse(const std::string& body, float* window) {
  const size_t offset = Below(8);
  const std::unique_ptr<char[]> memory(new char[offset + body.size()]);
  body.copy(memory.get() + offset, body.size());
  return codec::ParseWindow({memory.get() + offset, body.size()}, "x", window);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2) return 2;
  state = std::strtoull(argv[1], nullptr, 10) + 1;
  int taken = 0;
  for (int round = 0; round < kRounds; round++) {
    float window[codec::kWindowValues], read[codec::kWindowValues];
    for (float& value : window) value = (static_cast<float>(RandomBits()) / 4294967296.0f - 0.5f) * 70;
    std::string body = BodyOf(window);
    const size_t changes = Below(3);
    for (size_t i = 0; i < changes && !body.empty(); i++) Mutate(&body);
    const bool is_taken = Parse(body, read);
    if (changes == 0 && (!is_taken || std::memcmp(window, read, sizeof window) != 0)) return 1;
    taken += is_taken;

    FillWithAnything(window, 100);
    const std::unique_ptr<char[]> text(new char[100 * codec::kLongestNumber]);
    codec::WriteNumbers(window, 100, text.get());
  }
  std::printf("%d of %d taken\n", taken, kRounds);
}
