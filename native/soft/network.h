// The int8 network that a HEF for this software device carries, and the running of it.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "hef.h"
#include "kernels.h"

namespace soft {

/// One tensor's place in the scratch memory of a run.
struct Tensor {
  uint32_t channels, length;
  int32_t zero_point;
  float scale;
  size_t row;         // bytes per time step: the channels, padded
  size_t rows_ahead;  // rows of zero points before time 0, for the convolutions that read there
  size_t rows_after;
  size_t offset;  // of the first row, a padding one
  bool is_float;
};

struct NetworkOutput {
  std::string stream;
  uint32_t tensor;
  float scale, zero_point;
};

enum class Operation : uint32_t { kConvolution = 1, kMatrix = 2, kAddition = 3, kAveragePool = 4 };

struct NetworkLayer {
  Operation operation;
  uint32_t input_a, input_b, output;
  bool relu;
  uint32_t taps, stride, dilation, pad_left;
  double multiplier_a, multiplier_b;
  std::vector<uint8_t> weights;    // as the kernels want them; with a float output int8[output][input]
  std::vector<int32_t> bias;       // less what the input's zero point adds; padded to kLanes
  std::vector<double> multiplier;  // padded to kLanes
};

/// Immutable, so every configured network group of a HEF runs the same one. Scratch is per caller.
class Network {
 public:
  /// A copy of everything that a run writes.
  struct Scratch {
    std::vector<uint8_t> activations;
    std::vector<int16_t> patches;  // the kernels' own
    std::vector<float> floats;
  };

  /// True when a HEF carries a network for us at all; it may still be a broken one.
  static bool IsIn(const std::string& mapping);

  /// @param group the streams that the network must fit
  /// @returns null when the payload is nonsense or does not fit the streams
  static std::unique_ptr<Network> Load(const std::string& mapping, const HefNetworkGroup& group,
                                       const Kernels& kernels);

  Scratch MakeScratch() const;

  /// Runs one window. Allocates nothing.
  /// @param input  one frame as the input stream carries it, `layers[0].FrameBytes()`
  /// @param outputs  one buffer per output stream, in the order of the group's layers
  void Run(const uint8_t* input, uint8_t* const* outputs, Scratch* scratch) const;

 private:
  Network() = default;
  bool Read(const std::string& mapping, const Kernels& kernels);
  bool Bind(const HefNetworkGroup& group);
  void LayOut();
  void ReadInput(const uint8_t* input, uint8_t* rows) const;
  void Convolve(const NetworkLayer& layer, Scratch* scratch) const;
  void Add(const NetworkLayer& layer, Scratch* scratch) const;
  void Pool(const NetworkLayer& layer, Scratch* scratch) const;
  void MultiplyToFloat(const NetworkLayer& layer, Scratch* scratch) const;
  /// The row of time 0.
  uint8_t* FirstRow(uint32_t tensor, Scratch* scratch) const;
  void WriteOutput(size_t index, const Scratch& scratch, uint8_t* bytes) const;

  const Kernels* kernels_ = nullptr;
  std::vector<Tensor> tensors_;
  std::vector<NetworkLayer> layers_;
  std::vector<NetworkOutput> outputs_;  // after Bind(): in the order of the streams
  std::vector<size_t> output_bytes_;
  uint32_t input_tensor_ = 0;
  Layer input_layer_{};
  size_t activations_ = 0, patch_values_ = 0, floats_ = 0;
};

}  // namespace soft
