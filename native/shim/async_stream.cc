// Raw asynchronous transfers: no thread and no copy of HailoRT's own between us and the device.
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <vector>

#include "stream.h"
#include "teardown.h"

namespace shim {
namespace {

using hailo_abi::Status;
using std::chrono::milliseconds;

/// How long a waiting Collect() does not look whether the vdevice was lost through another stream.
constexpr milliseconds kLossCheckInterval{20};
/// For callbacks after a shutdown, which ends all of them.
constexpr milliseconds kDrainTimeout{500};

/// Memory for one DMA direction of one transfer. Whole pages, as the device may write to the rest of
/// the last page, and mapped once, as mapping costs more than a window.
class DmaBuffer {
 public:
  DmaBuffer(const NetworkGroup& group, size_t bytes, hailo_abi::Direction direction)
      : bytes_(bytes), direction_(direction) {
    const size_t page_bytes = static_cast<size_t>(sysconf(_SC_PAGESIZE));  // 16 KiB on a Pi 5
    pages_bytes_ = (bytes + page_bytes - 1) / page_bytes * page_bytes;
    void* pages = mmap(nullptr, pages_bytes_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (pages == MAP_FAILED) throw Failure(Cause::kOpenFailed, "Cannot allocate a transfer: out of memory");
    data_ = static_cast<uint8_t*>(pages);
    const Library& library = group.vdevice->library;
    const Status status = library.call.vdevice_dma_map_buffer(group.vdevice_handle(), data_, bytes_, direction_);
    if (status == hailo_abi::kSuccess) return;
    munmap(data_, pages_bytes_);
    library.Check(status, "map a transfer for DMA");
  }
  /// Only once HailoRT does not know of it any more.
  ~DmaBuffer() { munmap(data_, pages_bytes_); }
  DmaBuffer(const DmaBuffer&) = delete;

  void Unmap(const NetworkGroup& group) {
    group.vdevice->library.call.vdevice_dma_unmap_buffer(group.vdevice_handle(), data_, bytes_, direction_);
  }

  uint8_t* data() const { return data_; }
  size_t bytes() const { return bytes_; }

 private:
  const size_t bytes_;
  size_t pages_bytes_;
  const hailo_abi::Direction direction_;
  uint8_t* data_;
};

/// What HailoRT's threads write to: lives until they cannot any more.
struct Transfers {
  struct Transfer {
    Transfers* owner;
    std::unique_ptr<DmaBuffer> input;
    std::vector<std::unique_ptr<DmaBuffer>> outputs;
    /// Parts (one write, one read per output) that HailoRT has not called back for.
    int pending = 0;
    Status status = hailo_abi::kSuccess;
  };

  explicit Transfers(std::shared_ptr<NetworkGroup> group) : group(std::move(group)) {}
  ~Transfers() {
    if (group != nullptr) Unmap();
  }

  std::mutex mutex;
  std::condition_variable window_ended;
  size_t in_flight = 0;
  /// Null once torn down.
  std::shared_ptr<NetworkGroup> group;
  std::vector<Transfer> ring;

  /// On HailoRT's interrupt thread. The mutex also orders its writes before our reads.
  static void OnPartEnded(const hailo_abi::CompletionInfo* info) {
    Transfer& transfer = *static_cast<Transfer*>(info->opaque);
    Transfers& owner = *transfer.owner;
    const std::lock_guard<std::mutex> lock(owner.mutex);
    if (info->status != hailo_abi::kSuccess && transfer.status == hailo_abi::kSuccess) transfer.status = info->status;
    if (--transfer.pending > 0) return;
    owner.in_flight--;
    if (owner.group != nullptr) {
      owner.group->vdevice->WindowsEnded(1);
      owner.group->GiveCredit();
    }
    // Under the lock: whoever waits may free all this once it has it.
    owner.window_ended.notify_all();
  }

  bool AwaitAll(milliseconds timeout) {
    std::unique_lock<std::mutex> lock(mutex);
    return window_ended.wait_for(lock, timeout, [this] { return in_flight == 0; });
  }

  void Unmap() {
    for (Transfer& transfer : ring) {
      if (transfer.input != nullptr) transfer.input->Unmap(*group);
      for (const auto& output : transfer.outputs) output->Unmap(*group);
    }
  }
};

/// Ends what is in flight, and gives the group back.
void TearDownTransfers(std::unique_ptr<Transfers> transfers) {
  const std::shared_ptr<VDevice> vdevice = transfers->group->vdevice;
  // A group of our own is shut down at once; one that others use only if it hangs.
  if (!transfers->group->is_shared() || !transfers->AwaitAll(kDrainTimeout)) transfers->group->ShutDown();
  const bool have_all_ended = transfers->AwaitAll(kDrainTimeout);
  transfers->Unmap();
  std::shared_ptr<NetworkGroup> group;
  {
    const std::lock_guard<std::mutex> lock(transfers->mutex);
    group.swap(transfers->group);
  }
  group.reset();
  if (have_all_ended) return;
  // A dead device ends nothing, and HailoRT may call back as long as it knows of the device.
  vdevice->Retire(Cause::kDeviceLost, "Windows on the device never ended");
  vdevice->KeepUntilReleased(std::move(transfers));
}

class AsyncStream final : public Stream {
 public:
  AsyncStream(const std::shared_ptr<VDevice>& vdevice, const StreamOptions& options);
  ~AsyncStream() override;

  size_t depth() const override { return transfers_->ring.size(); }
  bool Submit(const float* window) override;
  bool Collect(float* output, milliseconds timeout) override;

 private:
  Transfers::Transfer& At(size_t sequence) { return transfers_->ring[sequence % transfers_->ring.size()]; }
  /// Queues all reads, then the write. @return the first refusal
  Status Queue(Transfers::Transfer& transfer);
  void VerifyTransform(const StreamLayout& layout) const;

  std::unique_ptr<Transfers> transfers_;
  const OutputHead head_;
  hailo_abi::InputStream input_ = nullptr;
  std::vector<hailo_abi::OutputStream> outputs_;
  std::optional<InputTransform> input_transform_;
  std::vector<OutputTransform> output_transforms_;  // latent, then motif scores if the HEF has them
  size_t submitted_ = 0;
  size_t collected_ = 0;
};

AsyncStream::AsyncStream(const std::shared_ptr<VDevice>& vdevice, const StreamOptions& options)
    : Stream(vdevice), head_(options) {
  const std::shared_ptr<NetworkGroup> group = NetworkGroup::Configure(vdevice, options.hef);
  const auto& call = library_.call;
  library_.Check(call.get_input_stream(group->handle(), options.input_name.c_str(), &input_), "get the input stream");
  const StreamLayout input_layout = library_.LayoutOf(input_);
  input_transform_.emplace(input_layout, options.normalisation);
  VerifyTransform(input_layout);

  size_t depth = 0;
  library_.Check(call.input_stream_get_async_max_queue_size(input_, &depth), "read the input's queue size");
  std::vector<std::string> names{options.latent_name};
  if (head_.needs_motif_stream()) names.push_back(options.motif_name);
  std::vector<size_t> output_bytes;
  for (const std::string& name : names) {
    hailo_abi::OutputStream output = nullptr;
    library_.Check(call.get_output_stream(group->handle(), name.c_str(), &output), "get an output stream");
    const StreamLayout layout = library_.LayoutOf(output);
    output_transforms_.emplace_back(layout, outputs_.empty() ? kLatentDims : head_.motif_count());
    outputs_.push_back(output);
    output_bytes.push_back(layout.frame_bytes);
    size_t output_depth = 0;
    library_.Check(call.output_stream_get_async_max_queue_size(output, &output_depth), "read an output's queue size");
    depth = std::min(depth, output_depth);
  }
  if (depth == 0) throw Failure(Cause::kOpenFailed, "Cannot use the stream: HailoRT gives it a queue of 0 windows");
  group->SetDepth(depth);
  if (group->is_shared()) depth = std::max<size_t>(1, depth / options.stream_count);

  transfers_ = std::make_unique<Transfers>(group);
  transfers_->ring.resize(depth);
  for (Transfers::Transfer& transfer : transfers_->ring) {
    transfer.owner = transfers_.get();
    transfer.input = std::make_unique<DmaBuffer>(*group, input_layout.frame_bytes, hailo_abi::kHostToDevice);
    for (const size_t bytes : output_bytes) {
      transfer.outputs.push_back(std::make_unique<DmaBuffer>(*group, bytes, hailo_abi::kDeviceToHost));
    }
  }
}

AsyncStream::~AsyncStream() {
  if (transfers_ == nullptr) return;
  // std::function wants what it holds to be copyable.
  TearDown([transfers = transfers_.release()] { TearDownTransfers(std::unique_ptr<Transfers>(transfers)); });
}

/// Our own pass must give the very bytes of HailoRT's. If a release or a layout makes them differ, it
/// is better not to serve than to serve numbers that are slightly wrong.
void AsyncStream::VerifyTransform(const StreamLayout& layout) const {
  std::array<float, kWindowValues> window;
  for (size_t value = 0; value < kWindowValues; value++) {
    const hailo_abi::QuantInfo& quantisation =
        layout.quantisation[layout.quantisation.size() == 1 ? 0 : value % kChannels];
    // Every level of the range and a little beyond, ties between two of them included.
    float level = static_cast<float>(value % 530) / 2 - 4;
    // What it does not clip and what no uint8 holds, HailoRT lets wrap around; we clamp it.
    const bool is_identity = quantisation.scale == 1.0f && quantisation.zero_point == 0.0f;
    const float lowest = quantisation.limit_min / quantisation.scale + quantisation.zero_point;
    const float highest = quantisation.limit_max / quantisation.scale + quantisation.zero_point;
    if (is_identity || lowest < -0.4f || highest > 255.4f) level = std::clamp(level, 0.0f, 255.0f);
    window[value] = (level - quantisation.zero_point) * quantisation.scale;
  }
  const InputTransform plain(layout, std::nullopt);
  std::vector<uint8_t> ours(layout.frame_bytes), theirs(layout.frame_bytes);
  plain.Run(window.data(), ours.data());

  hailo_abi::TransformParams params{};
  params.user_format = {hailo_abi::kTypeFloat32, hailo_abi::kOrderNhwc, 0};
  hailo_abi::InputTransform context = nullptr;
  library_.Check(library_.call.create_input_transform_context_by_stream(input_, &params, &context),
                 "create a transform context");
  const Status status = library_.call.transform_frame_by_input_transform_context(context, window.data(), sizeof window,
                                                                                 theirs.data(), theirs.size());
  library_.call.release_input_transform_context(context);
  library_.Check(status, "transform a frame");
  if (ours == theirs) return;
  throw Failure(Cause::kHefRefused, "Cannot use stream " + layout.name +
                                        " of the HEF: HailoRT lays it out in another way than we do. "
                                        "HAILO_IO=vstream leaves that to HailoRT");
}

bool AsyncStream::Submit(const float* window) {
  if (!IsUsable()) return false;
  if (submitted_ - collected_ == depth()) return Fail(Cause::kOpenFailed, "More windows submitted than the depth");
  Transfers::Transfer& transfer = At(submitted_);
  input_transform_->Run(window, transfer.input->data());
  if (!transfers_->group->TakeCredit(kDrainTimeout)) {
    return Fail(Cause::kTimeout,
                "No room in the device's queue within " + std::to_string(kDrainTimeout.count()) + " ms");
  }
  {
    const std::lock_guard<std::mutex> lock(transfers_->mutex);
    transfer.pending = 1 + static_cast<int>(outputs_.size());
    transfer.status = hailo_abi::kSuccess;
    transfers_->in_flight++;
  }
  vdevice_->WindowStarted();
  submitted_++;
  const Status status = Queue(transfer);
  return status == hailo_abi::kSuccess || Fail(status, "submit a window");
}

Status AsyncStream::Queue(Transfers::Transfer& transfer) {
  const auto& call = library_.call;
  const std::lock_guard<std::mutex> lock(transfers_->group->submit_mutex);
  size_t queued = 0;
  Status status = hailo_abi::kSuccess;
  for (; status == hailo_abi::kSuccess && queued < outputs_.size(); queued++) {
    const DmaBuffer& output = *transfer.outputs[queued];
    status = call.stream_read_raw_buffer_async(outputs_[queued], output.data(), output.bytes(), Transfers::OnPartEnded,
                                               &transfer);
  }
  if (status == hailo_abi::kSuccess) {
    status = call.stream_write_raw_buffer_async(input_, transfer.input->data(), transfer.input->bytes(),
                                                Transfers::OnPartEnded, &transfer);
    queued++;
  }
  if (status == hailo_abi::kSuccess) return status;
  // What was refused, and what comes after it, is never called back for.
  const size_t refused = 1 + outputs_.size() - (queued - 1);
  hailo_abi::CompletionInfo never{status, nullptr, 0, &transfer};
  for (size_t part = 0; part < refused; part++) Transfers::OnPartEnded(&never);
  return status;
}

bool AsyncStream::Collect(float* output, milliseconds timeout) {
  if (failure()) return false;
  if (collected_ == submitted_) return Fail(Cause::kOpenFailed, "No window in flight to collect");
  Transfers::Transfer& oldest = At(collected_);
  const auto deadline = std::chrono::steady_clock::now() + timeout;
  Status status;
  {
    std::unique_lock<std::mutex> lock(transfers_->mutex);
    const auto has_ended = [&] { return oldest.pending == 0; };
    while (!transfers_->window_ended.wait_until(
        lock, std::min(deadline, std::chrono::steady_clock::now() + kLossCheckInterval), has_ended)) {
      if (!IsUsable()) return false;
      if (std::chrono::steady_clock::now() >= deadline) {
        return Fail(Cause::kTimeout, "No answer from the device within " + std::to_string(timeout.count()) + " ms");
      }
    }
    status = oldest.status;
  }
  collected_++;
  if (status != hailo_abi::kSuccess) return Fail(status, "run a window");

  output_transforms_[0].Run(oldest.outputs[0]->data(), output);
  if (head_.needs_motif_stream()) output_transforms_[1].Run(oldest.outputs[1]->data(), output + kLatentDims);
  head_.Finish(output);
  vdevice_->StreamSucceeded();
  return true;
}

}  // namespace

std::unique_ptr<Stream> OpenAsyncStream(const std::shared_ptr<VDevice>& vdevice, const StreamOptions& options) {
  return std::make_unique<AsyncStream>(vdevice, options);
}

}  // namespace shim
