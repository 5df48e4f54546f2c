// HailoRT's vstreams: it transforms, quantises and queues, on threads of its own. For layouts that
// our own pass does not know, and to tell whose fault it is.
#include <algorithm>
#include <cstring>
#include <vector>

#include "stream.h"
#include "teardown.h"

namespace shim {
namespace {

using std::chrono::milliseconds;

/// Releasing an input vstream waits for what is in flight times this: short, unlike HailoRT's 10 s.
constexpr uint32_t kTransferTimeoutMs = 500;

/// The vstreams of one network group. A read that times out clears its pipeline, and a late frame
/// would then answer the next window: the whole set is given up with the stream.
struct VStreams {
  explicit VStreams(std::shared_ptr<NetworkGroup> group) : group(std::move(group)) {}
  ~VStreams() {
    const auto& call = group->vdevice->library.call;
    group->ShutDown();
    if (input != nullptr) call.release_input_vstreams(&input, 1);
    if (!outputs.empty()) call.release_output_vstreams(outputs.data(), outputs.size());
  }

  const std::shared_ptr<NetworkGroup> group;
  hailo_abi::InputVStream input = nullptr;
  std::vector<hailo_abi::OutputVStream> outputs;  // as HailoRT orders them
};

class VStreamStream final : public Stream {
 public:
  VStreamStream(const std::shared_ptr<VDevice>& vdevice, const StreamOptions& options);
  ~VStreamStream() override;

  size_t depth() const override { return depth_; }
  bool Submit(const float* window) override;
  bool Collect(float* output, milliseconds timeout) override;

 private:
  using Params = std::vector<hailo_abi::VStreamParamsByName>;
  template <typename Make>
  Params MakeParams(hailo_abi::NetworkGroup group, Make make) const;
  bool Read(hailo_abi::OutputVStream vstream, std::vector<float>& values);

  std::unique_ptr<VStreams> vstreams_;
  const OutputHead head_;
  const std::optional<Normalisation> normalisation_;
  size_t depth_;
  size_t in_flight_ = 0;
  size_t latent_index_ = 0, motif_index_ = 0;
  std::vector<std::vector<float>> values_;  // one frame of each output
};

template <typename Make>
VStreamStream::Params VStreamStream::MakeParams(hailo_abi::NetworkGroup group, Make make) const {
  Params params(16);
  size_t count = params.size();
  library_.Check(make(group, false, hailo_abi::kTypeFloat32, params.data(), &count), "prepare the vstreams");
  params.resize(count);
  for (hailo_abi::VStreamParamsByName& vstream : params) vstream.params.timeout_ms = kTransferTimeoutMs;
  return params;
}

size_t IndexOf(const std::vector<hailo_abi::VStreamParamsByName>& params, const std::string& name) {
  for (size_t index = 0; index < params.size(); index++) {
    if (name == std::string(params[index].name, strnlen(params[index].name, hailo_abi::kNameBytes))) return index;
  }
  throw Failure(Cause::kHefRefused, "Cannot use the HEF: it has no vstream " + name);
}

VStreamStream::VStreamStream(const std::shared_ptr<VDevice>& vdevice, const StreamOptions& options)
    : Stream(vdevice), head_(options), normalisation_(options.normalisation) {
  if (vdevice->options.is_single_model) {
    throw Failure(Cause::kOpenFailed, "HAILO_IO=vstream needs HAILO_SCHEDULER=round_robin");
  }
  const auto& call = library_.call;
#define IS_THERE(name, result, parameters) &&call.name != nullptr
  const bool has_vstreams = true HAILORT_OPTIONAL_FUNCTIONS(IS_THERE);
#undef IS_THERE
  if (!has_vstreams) {
    throw Failure(Cause::kLibraryUnsupported, library_.path + " has no vstreams: unset HAILO_IO");
  }
  vstreams_ = std::make_unique<VStreams>(NetworkGroup::Configure(vdevice, options.hef));
  const hailo_abi::NetworkGroup group = vstreams_->group->handle();

  const Params inputs = MakeParams(group, call.make_input_vstream_params);
  if (inputs.size() != 1) {
    throw Failure(Cause::kHefRefused,
                  "Cannot use the HEF: it has " + std::to_string(inputs.size()) + " inputs, expected 1");
  }
  IndexOf(inputs, options.input_name);
  depth_ = std::max(1u, inputs[0].params.queue_size);
  const Params outputs = MakeParams(group, call.make_output_vstream_params);
  latent_index_ = IndexOf(outputs, options.latent_name);
  if (head_.needs_motif_stream()) motif_index_ = IndexOf(outputs, options.motif_name);

  library_.Check(call.create_input_vstreams(group, inputs.data(), 1, &vstreams_->input), "create the input vstream");
  std::vector<hailo_abi::OutputVStream> created(outputs.size());
  library_.Check(call.create_output_vstreams(group, outputs.data(), outputs.size(), created.data()),
                 "create the output vstreams");
  vstreams_->outputs = created;

  size_t bytes = 0;
  library_.Check(call.get_input_vstream_frame_size(vstreams_->input, &bytes), "read the input's frame size");
  bool fits = bytes == kWindowValues * sizeof(float);
  for (const hailo_abi::OutputVStream vstream : vstreams_->outputs) {
    library_.Check(call.get_output_vstream_frame_size(vstream, &bytes), "read an output's frame size");
    values_.emplace_back(bytes / sizeof(float));
  }
  fits = fits && values_[latent_index_].size() == kLatentDims &&
         (!head_.needs_motif_stream() || values_[motif_index_].size() == head_.motif_count());
  if (fits) return;
  throw Failure(Cause::kHefRefused, "Cannot use the HEF: its vstreams have other sizes than a window and its results");
}

VStreamStream::~VStreamStream() {
  vdevice_->WindowsEnded(in_flight_);
  TearDown([vstreams = vstreams_.release()] { delete vstreams; });
}

bool VStreamStream::Submit(const float* window) {
  if (!IsUsable()) return false;
  if (in_flight_ == depth_) return Fail(Cause::kOpenFailed, "More windows submitted than the depth");
  float normalised[kWindowValues];
  if (normalisation_) {
    for (size_t value = 0; value < kWindowValues; value++) {
      const size_t channel = value % kChannels;
      normalised[value] = (window[value] - normalisation_->mean[channel]) / normalisation_->std[channel];
    }
  }
  const float* frame = normalisation_ ? normalised : window;
  const hailo_abi::Status status =
      library_.call.vstream_write_raw_buffer(vstreams_->input, frame, kWindowValues * sizeof(float));
  if (status != hailo_abi::kSuccess) return Fail(status, "submit a window");
  vdevice_->WindowStarted();
  in_flight_++;
  return true;
}

bool VStreamStream::Collect(float* output, milliseconds) {
  if (!IsUsable()) return false;
  if (in_flight_ == 0) return Fail(Cause::kOpenFailed, "No window in flight to collect");
  // Every output is read, also one that nobody asks for: its queue would fill and stop the device.
  bool is_read = true;
  for (size_t index = 0; is_read && index < values_.size(); index++) {
    is_read = Read(vstreams_->outputs[index], values_[index]);
  }
  vdevice_->WindowsEnded(1);
  in_flight_--;
  if (!is_read) return false;
  std::memcpy(output, values_[latent_index_].data(), kLatentDims * sizeof(float));
  if (head_.needs_motif_stream()) {
    std::memcpy(output + kLatentDims, values_[motif_index_].data(), head_.motif_count() * sizeof(float));
  }
  head_.Finish(output);
  vdevice_->StreamSucceeded();
  return true;
}

bool VStreamStream::Read(hailo_abi::OutputVStream vstream, std::vector<float>& values) {
  const hailo_abi::Status status =
      library_.call.vstream_read_raw_buffer(vstream, values.data(), values.size() * sizeof(float));
  return status == hailo_abi::kSuccess || Fail(status, "run a window");
}

}  // namespace

std::unique_ptr<Stream> OpenVStream(const std::shared_ptr<VDevice>& vdevice, const StreamOptions& options) {
  return std::make_unique<VStreamStream>(vdevice, options);
}

}  // namespace shim
