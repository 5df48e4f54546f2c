// Streams opened, used and abandoned mid-flight by several threads, while the device breaks and heals:
// for the sanitizers. Every result is held against the one that its window must have.
#include <dlfcn.h>

#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iterator>
#include <random>
#include <thread>

#include "../shim/stream.h"
#include "../shim/teardown.h"

namespace {

using std::chrono::milliseconds;

constexpr int kThreads = 4;
constexpr int kRounds = 8;
/// More come nowhere but on a machine that is so slow that each round ends by one before a window is answered.
constexpr int kFaults = 200;
constexpr int kWindowsPerRound = 60;
constexpr size_t kMotifs = 12;
constexpr size_t kOutputs = shim::kLatentDims + kMotifs;

std::vector<char> ReadFile(const char* path) {
  std::ifstream file(path, std::ios::binary);
  return std::vector<char>(std::istreambuf_iterator<char>(file), {});
}

struct Setup {
  const shim::Library& library;
  shim::VDeviceOptions vdevice;
  shim::StreamOptions stream;
  std::vector<float> windows;
  std::vector<float> expected;  // float32[windows][76], filled by the first stream

  size_t window_count() const { return windows.size() / shim::kWindowValues; }
};

std::atomic<int> wrong{0}, answered{0}, lost{0};

void Learn(Setup& setup) {
  const auto vdevice = shim::VDevice::Acquire(setup.library, setup.vdevice);
  const auto stream = shim::Stream::Open(vdevice, setup.stream);
  setup.expected.resize(setup.window_count() * kOutputs);
  for (size_t window = 0; window < setup.window_count(); window++) {
    if (stream->Submit(&setup.windows[window * shim::kWindowValues]) &&
        stream->Collect(&setup.expected[window * kOutputs], milliseconds(5000))) {
      continue;
    }
    std::printf("cannot run window %zu: %s\n", window, stream->failure()->what());
    std::exit(1);
  }
}

/// One life of a worker: it may end with windows in flight.
void Serve(const Setup& setup, std::mt19937& random) {
  const auto vdevice = shim::VDevice::Acquire(setup.library, setup.vdevice);
  const auto stream = shim::Stream::Open(vdevice, setup.stream);
  const size_t leave_in_flight = random() % (stream->depth() + 1);
  size_t submitted = random() % 1000;
  size_t collected = submitted;
  const size_t end = submitted + kWindowsPerRound;
  float output[kOutputs];
  while (submitted < end || submitted - collected > leave_in_flight) {
    if (submitted < end && submitted - collected < stream->depth()) {
      if (!stream->Submit(&setup.windows[submitted % setup.window_count() * shim::kWindowValues])) break;
      submitted++;
      continue;
    }
    if (!stream->Collect(output, milliseconds(200))) break;
    const float* expected = &setup.expected[collected % setup.window_count() * kOutputs];
    if (std::memcmp(output, expected, sizeof output) != 0) wrong++;
    answered++;
    collected++;
  }
  if (stream->failure()) lost++;
  (void)vdevice->State();
}

void Work(const Setup& setup, unsigned seed) {
  std::mt19937 random(seed);
  for (int round = 0; round < kRounds || answered == 0; round++) {
    try {
      Serve(setup, random);
    } catch (const shim::Failure& failure) {
      lost++;
      std::this_thread::sleep_for(milliseconds(20));
    }
  }
}

}  // namespace

/// stress LIBRARY HEF WINDOWS scheduler|single async|vstream [FAULT …]
int main(int argc, char** argv) {
  if (argc < 6) return 64;
  setvbuf(stdout, nullptr, _IOLBF, 0);
  const std::vector<char> hef = ReadFile(argv[2]);
  const std::vector<char> windows = ReadFile(argv[3]);

  Setup setup{shim::Library::Open(argv[1]), {}, {}, {}, {}};
  setup.vdevice.is_single_model = std::strcmp(argv[4], "single") == 0;
  setup.windows.resize(windows.size() / sizeof(float));
  std::memcpy(setup.windows.data(), windows.data(), windows.size());
  setup.stream.hef = {hef.data(), hef.size()};
  setup.stream.input_name = "tcn_encoder/input_layer1";
  setup.stream.latent_name = "tcn_encoder/latent";
  setup.stream.motif_head =
      shim::MotifHead{std::vector<float>(kMotifs * shim::kLatentDims, 0.125f), std::vector<float>(kMotifs, 0.5f)};
  setup.stream.motif_count = kMotifs;
  setup.stream.is_softmax = true;
  setup.stream.normalisation.emplace();
  setup.stream.normalisation->mean.fill(0);
  setup.stream.normalisation->std.fill(4);
  setup.stream.is_vstream = std::strcmp(argv[5], "vstream") == 0;
  setup.stream.stream_count = kThreads;

  using Control = int32_t (*)(const char*);
  void* library = dlopen(argv[1], RTLD_NOW | RTLD_NOLOAD);
  const auto control = reinterpret_cast<Control>(dlsym(library, "softhailort_control"));

  Learn(setup);
  shim::AwaitTeardowns(milliseconds(5000));

  std::vector<std::thread> workers;
  std::atomic<int> running{kThreads};
  for (int worker = 0; worker < kThreads; worker++) {
    workers.emplace_back([&setup, &running, worker] {
      Work(setup, 1000u + worker);
      running--;
    });
  }
  const int fault_kinds = argc - 6;
  for (int fault = 0; running > 0; fault++) {
    std::this_thread::sleep_for(milliseconds(60));
    if (fault_kinds == 0 || fault >= kFaults) continue;
    control(argv[6 + fault % fault_kinds]);
    std::this_thread::sleep_for(milliseconds(60));
    control("");
  }
  for (std::thread& worker : workers) worker.join();
  const bool is_torn_down = shim::AwaitTeardowns(milliseconds(60000));

  std::printf("answered %d, wrong %d, lost %d, torn down %s\n", answered.load(), wrong.load(), lost.load(),
              is_torn_down ? "yes" : "no");
  return wrong == 0 && answered > 0 && is_torn_down ? 0 : 1;
}
