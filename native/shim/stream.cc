#include "stream.h"

namespace shim {

std::unique_ptr<Stream> Stream::Open(const std::shared_ptr<VDevice>& vdevice, const StreamOptions& options) {
  return options.is_vstream ? OpenVStream(vdevice, options) : OpenAsyncStream(vdevice, options);
}

Stream::Stream(const std::shared_ptr<VDevice>& vdevice)
    : vdevice_(vdevice), library_(vdevice->library), failure_count_at_opening_(vdevice->failure_count()) {}

bool Stream::Fail(Cause cause, const std::string& reason) {
  // An abort, or whatever else follows from the loss of the vdevice, is told as that loss.
  if (!IsUsable()) return false;
  failure_.emplace(cause, reason);
  vdevice_->StreamFailed(cause, reason, failure_count_at_opening_);
  return false;
}

bool Stream::Fail(hailo_abi::Status status, const char* action) {
  return Fail(CauseOf(status), std::string("Cannot ") + action + ": " + library_.Describe(status));
}

bool Stream::IsUsable() {
  if (failure_) return false;
  if (!vdevice_->is_retired()) return true;
  failure_.emplace(vdevice_->retirement_cause(), vdevice_->retirement_reason());
  return false;
}

void OutputHead::Finish(float* output) const {
  float* motifs = output + kLatentDims;
  if (motif_head_) motif_head_->Run(output, motifs);
  if (is_softmax_) Softmax(motifs, motif_count_);
}

}  // namespace shim
