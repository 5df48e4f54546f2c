// Runs our transforms over the values of a recorded run of HailoRT's, and prints them as it did.
#include <cmath>
#include <cstdio>
#include <cstring>
#include <limits>
#include <vector>

#include "../shim/transform.h"

namespace {

shim::StreamLayout LayoutOf(const char* name, const hailo_abi::Shape& shape, const hailo_abi::Shape& padded,
                            int32_t order, const hailo_abi::QuantInfo& quantisation) {
  return {name, shape, padded, order, 1, size_t{padded.height} * padded.width * padded.features, false, {quantisation}};
}

const hailo_abi::QuantInfo kInput{128, 0.0625f, -8, 7.9375f};

void PrintInputs() {
  const float infinity = std::numeric_limits<float>::infinity();
  const float values[] = {0,        0.03125f,  -0.03125f, 0.09375f, 0.15625f, 0.03126f, 0.0312f,
                          -8,       -8.1f,     -100,      7.9375f,  8,        100,      NAN,
                          infinity, -infinity, 1e30f,     -0.0f,    0.0625f,  0.046875f};
  const shim::InputTransform transform(LayoutOf("input", {1, 100, 9}, {1, 104, 9}, hailo_abi::kOrderNhcw, kInput),
                                       std::nullopt);
  for (const float value : values) {
    const std::vector<float> window(shim::kWindowValues, value);
    std::vector<uint8_t> frame(936, 0);
    transform.Run(window.data(), frame.data());
    char text[32];
    std::snprintf(text, sizeof text, "%g", static_cast<double>(value));
    std::printf("  x=%-12s -> q=%d\n", text, frame[0]);
  }
}

void PrintLayout() {
  std::vector<float> window(shim::kWindowValues);
  for (size_t value = 0; value < window.size(); value++) {
    window[value] = (static_cast<float>(value % 251) - kInput.zero_point) * kInput.scale;
  }
  std::vector<uint8_t> frame(936, 0);
  const shim::InputTransform transform(LayoutOf("input", {1, 100, 9}, {1, 104, 9}, hailo_abi::kOrderNhcw, kInput),
                                       std::nullopt);
  transform.Run(window.data(), frame.data());
  int mismatches = 0;
  for (size_t step = 0; step < shim::kTimesteps; step++) {
    for (size_t channel = 0; channel < shim::kChannels; channel++) {
      mismatches += frame[channel * 104 + step] != (step * shim::kChannels + channel) % 251;
    }
  }
  std::printf("  layout NHCW mismatches=%d pad bytes: %d %d %d %d\n", mismatches, frame[100], frame[101], frame[102],
              frame[103]);
}

void PrintOutput(uint32_t features, uint32_t padded, const hailo_abi::QuantInfo& quantisation) {
  const shim::OutputTransform transform(
      LayoutOf("output", {1, 1, features}, {1, 1, padded}, hailo_abi::kOrderNc, quantisation), features);
  std::vector<uint8_t> frame(padded);
  for (uint32_t feature = 0; feature < padded; feature++) frame[feature] = static_cast<uint8_t>(4 * feature);
  std::vector<float> values(features);
  transform.Run(frame.data(), values.data());
  std::printf("  0: q0..3 %g %g %g last(%u)=%g expect %g\n", values[0], values[1], values[2], features - 1,
              values.back(), values.back());
}

}  // namespace

int main() {
  PrintInputs();
  PrintLayout();
  PrintOutput(64, 64, {120, 0.03f, -3.6f, 4.05f});
  PrintOutput(12, 16, {0, 0.00392f, 0, 1});
}
