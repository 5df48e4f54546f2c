#include "vstream.h"

#include <algorithm>
#include <cstring>

namespace soft {
namespace {

// Nothing wakes a vstream when its device is unplugged: it looks.
constexpr auto kLookPeriod = std::chrono::milliseconds(20);

}  // namespace

Status VStream::Make(ConfiguredGroup* group, Direction direction, const VStreamParamsByName& params,
                     std::shared_ptr<VStream>* made) {
  const std::string name(params.name, strnlen(params.name, sizeof params.name));
  Stream* const stream = group->FindStream(name.c_str(), direction);
  if (stream == nullptr) return kNotFound;
  if (params.params.queue_size == 0) return kInvalidArgument;

  std::shared_ptr<VStream> vstream(new VStream);
  vstream->group_ = group;
  vstream->stream_ = stream;
  vstream->is_input_ = direction == kHostToDevice;
  vstream->timeout_ = std::chrono::milliseconds(params.params.timeout_ms);
  Status status = Transform::Make(*stream->layer, params.params.format, &vstream->transform_);
  if (status == kSuccess) status = group->UseAs(stream, Stream::Mode::kSync);
  if (status != kSuccess) return status;
  if (!group->Take(stream, vstream)) return kInvalidOperation;

  vstream->buffers_.resize(group->depth() + std::min<uint32_t>(params.params.queue_size, 1024));
  for (Buffer& buffer : vstream->buffers_) buffer.bytes.resize(stream->layer->FrameBytes());
  {
    // Outputs read ahead from the start: no frame runs before every stream has a transfer for it.
    Lock lock(vstream->mutex_);
    vstream->Pump();
  }
  *made = std::move(vstream);
  return kSuccess;
}

void VStream::Release(std::shared_ptr<VStream> vstream) {
  if (vstream->is_input_) vstream->Flush();
  {
    Lock lock(vstream->mutex_);
    vstream->is_released_ = true;
    vstream->group_->Withdraw(vstream->stream_);
  }
  vstream->group_->Leave(vstream->stream_);
  ConfiguredGroup* const group = vstream->group_;
  group->Bury(std::move(vstream));
}

Status VStream::Write(const void* values, size_t bytes) {
  if (values == nullptr || bytes != FrameBytes()) return kInvalidArgument;
  Lock lock(mutex_);
  if (!group_->is_activated()) return kNetworkGroupNotActivated;
  Pump();
  const Status status = WaitUntil(&lock, timeout_, [&] { return filled_ - completed_ < buffers_.size(); });
  if (status != kSuccess) return status;
  transform_.Apply(values, At(filled_++).bytes.data());
  Pump();
  return failure_;
}

Status VStream::Read(void* values, size_t bytes) {
  if (values == nullptr || bytes != FrameBytes()) return kInvalidArgument;
  Lock lock(mutex_);
  if (!group_->is_activated()) return kNetworkGroupNotActivated;
  Pump();
  const Status status = WaitUntil(&lock, timeout_, [&] {
    SkipInvalid();
    return completed_ > consumed_;
  });
  if (status != kSuccess) return status;
  transform_.Apply(At(consumed_++).bytes.data(), values);
  Pump();
  return kSuccess;
}

Status VStream::Flush() {
  Lock lock(mutex_);
  const auto timeout = timeout_ * static_cast<int64_t>(filled_ - completed_);
  return WaitUntil(&lock, timeout, [&] { return completed_ == filled_; });
}

void VStream::Clear() {
  Lock lock(mutex_);
  consumed_ = std::max(consumed_, completed_);
  Pump();
}

void VStream::OnRoom() {
  Lock lock(mutex_);
  if (!is_released_) Pump();
}

/// @returns what failed instead, or 4 after `timeout`
template <typename Condition>
Status VStream::WaitUntil(Lock* lock, std::chrono::milliseconds timeout, Condition condition) {
  const Clock::time_point deadline = Clock::now() + timeout;
  while (!condition()) {
    if (failure_ != kSuccess) return failure_;
    if (group_->IsDead()) return kDriverOperationFailed;
    const Clock::time_point now = Clock::now();
    if (now >= deadline) return kTimeout;
    changed_.wait_until(*lock, std::min(deadline, now + kLookPeriod));
  }
  return kSuccess;
}

/// Gives the stream what it has room for.
void VStream::Pump() {
  failure_ = kSuccess;
  while (is_input_ ? submitted_ < filled_ : submitted_ < consumed_ + buffers_.size()) {
    std::vector<uint8_t>& bytes = At(submitted_).bytes;
    const Status status = group_->Submit(stream_, {bytes.data(), bytes.size(), OnTransferDone, this});
    if (status == kQueueIsFull) return;
    if (status != kSuccess) {
      failure_ = status;
      // An input that cannot be submitted is not kept for later: its writer is told that it failed.
      if (is_input_) filled_ = submitted_;
      return;
    }
    submitted_++;
  }
}

void VStream::SkipInvalid() {
  while (consumed_ < completed_ && !At(consumed_).is_valid) consumed_++;
}

void VStream::OnTransferDone(const CompletionInfo* info) {
  auto* const vstream = static_cast<VStream*>(info->opaque);
  Lock lock(vstream->mutex_);
  if (vstream->is_released_) {
    // The place that this transfer held is for the vstream that has the stream now.
    lock.unlock();
    vstream->group_->WakeUser(vstream->stream_);
    return;
  }
  vstream->At(vstream->completed_++).is_valid = info->status == kSuccess;
  vstream->Pump();
  if (info->status != kSuccess) vstream->failure_ = info->status;
  vstream->changed_.notify_all();
}

}  // namespace soft
