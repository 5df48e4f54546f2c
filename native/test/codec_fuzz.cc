// The codec over texts that are cut and changed anywhere, each in memory of exactly its length: for sanitizers.
// Usage: codec_fuzz SEED
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "../codec/numbers.h"
#include "../codec/window.h"

namespace {

std::mt19937 random_bits;

size_t Below(size_t count) { return random_bits() % count; }

std::string RandomBody() {
  std::vector<float> values(codec::kWindowValues);
  for (float& value : values) value = 30 * (static_cast<float>(random_bits()) / 4e9f - 0.5f);
  std::string body = "{\"x\": [";
  for (size_t step = 0; step < codec::kTimesteps; step++) {
    char row[codec::kChannels * codec::kLongestNumber];
    char* const end = codec::WriteNumbers(&values[step * codec::kChannels], codec::kChannels, row);
    body += (step == 0 ? "[" : ", [") + std::string(row, end) + "]";
  }
  return body + "]}";
}

void Mutate(std::string* body) {
  constexpr char kPieces[] = "0123456789-+.eE,[]{}\": \n\0\xff";
  const size_t at = Below(2) ? Below(body->size()) : body->size() - 1 - Below(std::min<size_t>(body->size(), 200));
  switch (Below(4)) {
    case 0:
      return body->resize(at);
    case 1:
      return body->erase(at, Below(30)), void();
    case 2:
      return body->insert(at, Below(100), kPieces[Below(sizeof kPieces)]), void();
    default:
      (*body)[at] = kPieces[Below(sizeof kPieces)];
  }
}

/// In memory of its own, that begins at any address and ends where the text does.
bool IsTaken(const std::string& body) {
  const size_t offset = Below(8);
  const std::unique_ptr<char[]> memory(new char[offset + body.size()]);
  body.copy(memory.get() + offset, body.size());
  float window[codec::kWindowValues];
  return codec::ParseWindow({memory.get() + offset, body.size()}, "x", window);
}

void PrintAnyNumbers() {
  float values[76];
  for (float& value : values) {
    const uint32_t bits = random_bits();
    static_assert(sizeof bits == sizeof value);
    __builtin_memcpy(&value, &bits, sizeof value);
  }
  const std::unique_ptr<char[]> text(new char[76 * codec::kLongestNumber]);
  codec::WriteNumbers(values, 76, text.get());
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2) return 2;
  random_bits.seed(std::strtoul(argv[1], nullptr, 10));
  constexpr int kRounds = 1500;
  int taken = 0;
  for (int round = 0; round < kRounds; round++) {
    std::string body = RandomBody();
    for (size_t changes = Below(3); changes > 0 && !body.empty(); changes--) Mutate(&body);
    taken += IsTaken(body);
    PrintAnyNumbers();
  }
  std::printf("%d of %d taken\n", taken, kRounds);
}
