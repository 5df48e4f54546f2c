// The int8 network of a soft HEF in a bare loop on one core: no device, no threads, no transfers. Windows go in and
// results come out as float32, as in the float model that it is compared with.
//
//   network_bench HEF MILLISECONDS
//
// Prints a line of JSON. The digest is that of the results for random windows: equal for all kernels.
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <random>

#include "../soft/hef.h"
#include "../soft/network.h"
#include "../soft/transform.h"

int main(int argc, char** argv) {
  using Clock = std::chrono::steady_clock;
  constexpr size_t kWindows = 64;
  if (argc != 3) return 64;
  soft::HefContents hef;
  if (soft::ReadHefFile(argv[1], &hef) != hailo_abi::kSuccess) return 66;
  const soft::HefNetworkGroup& group = hef.network_groups[0];
  const soft::Kernels& kernels = soft::BestKernels();
  const auto network = soft::Network::Load(hef.mapping, group, kernels);
  if (network == nullptr) return 66;

  const hailo_abi::Format floats{hailo_abi::kTypeFloat32, hailo_abi::kOrderAuto, 0};
  soft::Transform to_input;
  std::vector<soft::Transform> to_floats;
  std::vector<std::vector<uint8_t>> outputs;
  std::vector<std::vector<float>> results;
  soft::QuantInfo quantisation{};
  for (const soft::Layer& layer : group.layers) {
    soft::Transform transform;
    if (soft::Transform::Make(layer, floats, &transform) != hailo_abi::kSuccess) return 66;
    if (layer.direction == hailo_abi::kDeviceToHost) {
      outputs.emplace_back(layer.FrameBytes());
      results.emplace_back(layer.ValueCount());
      to_floats.push_back(transform);
    } else {
      to_input = transform;
      quantisation = layer.quant_infos[0];
    }
  }
  std::mt19937 random(1);
  std::vector<std::vector<float>> windows(kWindows, std::vector<float>(to_input.UserBytes() / sizeof(float)));
  for (auto& window : windows) {
    for (float& value : window) value = (random() % 256 - quantisation.zero_point) * quantisation.scale;
  }
  std::vector<uint8_t> input(to_input.HardwareBytes());
  std::vector<uint8_t*> output_bytes;
  for (auto& output : outputs) output_bytes.push_back(output.data());
  soft::Network::Scratch scratch = network->MakeScratch();
  const auto infer = [&](const std::vector<float>& window) {
    to_input.Apply(window.data(), input.data());
    network->Run(input.data(), output_bytes.data(), &scratch);
    for (size_t i = 0; i < outputs.size(); i++) to_floats[i].Apply(outputs[i].data(), results[i].data());
  };

  uint64_t digest = 0xcbf29ce484222325;  // FNV-1a of the outputs of all windows
  for (const auto& window : windows) {
    infer(window);
    for (const auto& output : outputs) {
      for (const uint8_t byte : output) digest = (digest ^ byte) * 0x100000001b3;
    }
  }

  const auto start = Clock::now();
  const auto end = start + std::chrono::milliseconds(std::atoi(argv[2]));
  size_t ran = 0;
  Clock::time_point now;
  do {
    for (const auto& window : windows) infer(window);
    ran += kWindows;
    now = Clock::now();
  } while (now < end);
  const double seconds = std::chrono::duration<double>(now - start).count();
  std::printf("{\"kernels\":\"%s\",\"windowsPerSecond\":%.1f,\"digest\":\"%016llx\"}\n", kernels.name, ran / seconds,
              static_cast<unsigned long long>(digest));
}
