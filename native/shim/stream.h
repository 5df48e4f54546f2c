// One inference stream, owned by one worker.
#pragma once

#include <chrono>
#include <memory>
#include <optional>
#include <string>

#include "network_group.h"
#include "transform.h"

namespace shim {

struct StreamOptions {
  HefBytes hef;
  /// HailoRT's names of the input and the outputs; without a motif stream there is a motif head.
  std::string input_name, latent_name, motif_name;
  std::optional<MotifHead> motif_head;
  size_t motif_count;
  /// The motif outputs are logits.
  bool is_softmax;
  /// Nothing when the HEF carries the z-score.
  std::optional<Normalisation> normalisation;
  /// HailoRT's vstreams transform and queue, instead of raw transfers: slower, for layouts unknown to us.
  bool is_vstream = false;
  /// Streams that share the depth of one network group in single-model mode.
  size_t stream_count = 1;
};

/// Windows finish in the order they were submitted. For one thread at a time.
class Stream {
 public:
  /// May block for seconds. @throws Failure
  static std::unique_ptr<Stream> Open(const std::shared_ptr<VDevice>& vdevice, const StreamOptions& options);

  /// Does not wait: what is in flight ends on a thread of its own.
  virtual ~Stream() = default;

  /// Windows that may be in flight at once, as HailoRT reports it.
  virtual size_t depth() const = 0;

  /// @param window float32[100][9], raw sensor units. Copied before return.
  /// @return false leaves the stream unusable, see `failure()`
  virtual bool Submit(const float* window) = 0;

  /// Blocks until the oldest window in flight ends, at most `timeout`.
  /// @param output float32[64 + motifs]: latent, then motif scores. Untouched unless true.
  /// @return false leaves the stream unusable: the device may yet write to the window's transfer
  virtual bool Collect(float* output, std::chrono::milliseconds timeout) = 0;

  /// Why Submit() or Collect() gave false.
  const std::optional<Failure>& failure() const { return failure_; }

  /// False, with the failure remembered, once the stream has failed or the vdevice is lost. To be asked
  /// also while idle: the vdevice is not released before the last stream lets go of it.
  bool IsUsable();

 protected:
  explicit Stream(const std::shared_ptr<VDevice>& vdevice);

  /// Remembers the failure and tells the vdevice. @return false
  bool Fail(Cause cause, const std::string& reason);
  bool Fail(hailo_abi::Status status, const char* action);

  const std::shared_ptr<VDevice> vdevice_;
  const Library& library_;

 private:
  const int failure_count_at_opening_;
  std::optional<Failure> failure_;
};

/// Turns the latent and the motif outputs of a stream into what a window is answered with.
class OutputHead {
 public:
  explicit OutputHead(const StreamOptions& options)
      : motif_head_(options.motif_head), motif_count_(options.motif_count), is_softmax_(options.is_softmax) {}

  bool needs_motif_stream() const { return !motif_head_; }
  size_t motif_count() const { return motif_count_; }

  /// @param output float32[64 + motifs] with the latent in place, and the motif outputs unless there is a head
  void Finish(float* output) const;

 private:
  const std::optional<MotifHead> motif_head_;
  const size_t motif_count_;
  const bool is_softmax_;
};

std::unique_ptr<Stream> OpenAsyncStream(const std::shared_ptr<VDevice>& vdevice, const StreamOptions& options);
std::unique_ptr<Stream> OpenVStream(const std::shared_ptr<VDevice>& vdevice, const StreamOptions& options);

}  // namespace shim
