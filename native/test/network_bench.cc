// The int8 network of a soft HEF in a bare loop on one core: no device, no threads, no transfers.
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

  std::mt19937 random(1);
  std::vector<std::vector<uint8_t>> windows, outputs;
  for (const soft::Layer& layer : group.layers) {
    if (layer.direction == hailo_abi::kDeviceToHost) {
      outputs.emplace_back(layer.FrameBytes());
    } else {
      windows.assign(kWindows, std::vector<uint8_t>(layer.FrameBytes()));
    }
  }
  for (auto& window : windows) {
    for (uint8_t& byte : window) byte = static_cast<uint8_t>(random());
  }
  std::vector<uint8_t*> output_bytes;
  for (auto& output : outputs) output_bytes.push_back(output.data());
  soft::Network::Scratch scratch = network->MakeScratch();

  uint64_t digest = 0xcbf29ce484222325;  // FNV-1a of the outputs of all windows
  for (const auto& window : windows) {
    network->Run(window.data(), output_bytes.data(), &scratch);
    for (const auto& output : outputs) {
      for (const uint8_t byte : output) digest = (digest ^ byte) * 0x100000001b3;
    }
  }

  const auto start = Clock::now();
  const auto end = start + std::chrono::milliseconds(std::atoi(argv[2]));
  size_t ran = 0;
  Clock::time_point now;
  do {
    for (const auto& window : windows) network->Run(window.data(), output_bytes.data(), &scratch);
    ran += kWindows;
    now = Clock::now();
  } while (now < end);
  const double seconds = std::chrono::duration<double>(now - start).count();
  std::printf("{\"kernels\":\"%s\",\"windowsPerSecond\":%.1f,\"digest\":\"%016llx\"}\n", kernels.name, ran / seconds,
              static_cast<unsigned long long>(digest));
}
