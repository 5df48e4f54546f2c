// Virtual streams: blocking reads and writes of user values over a raw stream, with a queue between.
#pragma once

#include "network_group.h"
#include "transform.h"

namespace soft {

/// One buffer ring, whose cursors mean, for an input:   completed ≤ submitted ≤ filled ≤ completed + buffers
///                           and for an output:  consumed ≤ completed ≤ submitted ≤ consumed + buffers
/// Kept alive by the group after its release, because transfers under way still refer to its buffers.
class VStream : public StreamUser {
 public:
  static Status Make(ConfiguredGroup* group, Direction direction, const VStreamParamsByName& params,
                     std::shared_ptr<VStream>* vstream);
  /// Gives up all transfers. An input waits for those under way first, as long as its timeout allows for each.
  static void Release(std::shared_ptr<VStream> vstream);

  const Layer& layer() const { return *stream_->layer; }
  size_t FrameBytes() const { return transform_.UserBytes(); }

  Status Write(const void* values, size_t bytes);
  Status Read(void* values, size_t bytes);
  /// Waits until everything written has been run.
  Status Flush();
  /// Forgets results that nobody has read.
  void Clear();
  void OnRoom() override;

 private:
  using Lock = std::unique_lock<std::mutex>;
  struct Buffer {
    std::vector<uint8_t> bytes;
    bool is_valid = false;  // its frame ended well
  };

  VStream() = default;
  static void OnTransferDone(const CompletionInfo* info);
  Buffer& At(uint64_t frame) { return buffers_[frame % buffers_.size()]; }
  void Pump();
  void SkipInvalid();
  template <typename Condition>
  Status WaitUntil(Lock* lock, std::chrono::milliseconds timeout, Condition condition);

  ConfiguredGroup* group_ = nullptr;
  Stream* stream_ = nullptr;
  bool is_input_ = false;
  Transform transform_;
  std::chrono::milliseconds timeout_{};

  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<Buffer> buffers_;
  uint64_t filled_ = 0, submitted_ = 0, completed_ = 0, consumed_ = 0;
  bool is_released_ = false;
  Status failure_ = kSuccess;  // of the last submission
};

}  // namespace soft

namespace hailo_abi {
struct InputVStreamOpaque {
  std::shared_ptr<soft::VStream> vstream;
};
struct OutputVStreamOpaque {
  std::shared_ptr<soft::VStream> vstream;
};
}  // namespace hailo_abi
