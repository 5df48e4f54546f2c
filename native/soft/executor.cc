#include "executor.h"

#include <pthread.h>
#include <sys/prctl.h>

#include <algorithm>
#include <cstring>

namespace soft {
namespace {

constexpr uint8_t kWrongMask = 0x55;
constexpr double kFullClockMhz = 400;

/// An oversleep beyond this is not the timer's, but that of a busy machine.
constexpr auto kLongestOversleep = std::chrono::microseconds(100);

}  // namespace

FrameQueue::FrameQueue(std::shared_ptr<const Network> network_in, const HefNetworkGroup& layout, size_t depth_in)
    : depth(depth_in), network(std::move(network_in)), scratch(network->MakeScratch()) {
  lanes.resize(layout.layers.size());
  frames.resize(depth);
  calls.resize(lanes.size());
  for (Lane& lane : lanes) lane.transfers.resize(depth);
  for (const Layer& layer : layout.layers) {
    if (layer.direction == kHostToDevice) {
      input_count++;
      continue;
    }
    for (Frame& frame : frames) frame.outputs.emplace_back(layer.FrameBytes());
  }
  for (Frame& frame : frames) {
    for (auto& output : frame.outputs) frame.output_bytes.push_back(output.data());
  }
}

bool FrameQueue::HasRunnable() const {
  return std::all_of(lanes.begin(), lanes.end(), [&](const Lane& lane) { return lane.submitted > started; });
}

bool FrameQueue::HasPending() const {
  return std::any_of(lanes.begin(), lanes.end(), [&](const Lane& lane) { return lane.submitted > completed; });
}

void FrameQueue::Push(size_t lane, const Transfer& transfer) {
  const uint64_t frame = lanes[lane].submitted++;
  lanes[lane].transfers[frame % depth] = transfer;
  At(frame).arrival = Clock::now();  // the last of the frame's transfers decides
}

Executor::Executor(const std::atomic<uint32_t>* clock_mhz)
    : clock_mhz_(clock_mhz),
      born_unplug_count_(CurrentFaults().unplug_count),
      aborts_seen_(CurrentFaults().abort_count) {
  if (ConfiguredTiming().is_on) {
    // Computing must not delay the completions that the model has due meanwhile.
    threads_.emplace_back([this] { Serve(false, true); });
    threads_.emplace_back([this] { Serve(true, false); });
  } else {
    // One thread for both saves a wake-up per frame.
    threads_.emplace_back([this] { Serve(true, true); });
  }
}

Executor::~Executor() {
  {
    Lock lock(mutex_);
    is_stopping_ = true;
  }
  WakeAll();
  for (std::thread& thread : threads_) thread.join();
}

void Executor::Add(FrameQueue* queue) {
  Lock lock(mutex_);
  queues_.push_back(queue);
}

void Executor::Remove(FrameQueue* queue) {
  Lock lock(mutex_);
  queues_.erase(std::remove(queues_.begin(), queues_.end(), queue), queues_.end());
  queue->changed.wait(lock, [&] { return !queue->is_computing && !queue->is_calling; });
}

Status Executor::Submit(FrameQueue* queue, size_t lane, const Transfer& transfer) {
  const Faults faults = CurrentFaults();
  Lock lock(mutex_);
  ReactTo(faults);
  if (is_dead_) return kDriverOperationFailed;
  if (faults.set.fail_submit != kSuccess && lane < queue->input_count) return faults.set.fail_submit;
  if (queue->state == FrameQueue::State::kAborted) return kStreamAbort;
  if (queue->state == FrameQueue::State::kInactive) return kStreamNotActivated;
  if (queue->IsFull(lane)) return kQueueIsFull;
  queue->Push(lane, transfer);
  const bool is_runnable = queue->HasRunnable();
  lock.unlock();
  if (is_runnable) runnable_.notify_one();
  return kSuccess;
}

Status Executor::WaitForRoom(FrameQueue* queue, size_t lane, std::chrono::milliseconds timeout) {
  const Faults faults = CurrentFaults();
  Lock lock(mutex_);
  ReactTo(faults);
  const bool is_over = queue->changed.wait_for(
      lock, timeout, [&] { return is_dead_ || queue->state != FrameQueue::State::kRunning || !queue->IsFull(lane); });
  if (is_dead_) return kDriverOperationFailed;
  if (queue->state == FrameQueue::State::kAborted) return kStreamAbort;
  if (queue->state == FrameQueue::State::kInactive) return kStreamNotActivated;
  return is_over ? kSuccess : kTimeout;
}

void Executor::Withdraw(FrameQueue* queue, size_t lane) {
  Lock lock(mutex_);
  queue->lanes[lane].submitted = queue->started;
}

void Executor::Activate(FrameQueue* queue) {
  Lock lock(mutex_);
  queue->state = FrameQueue::State::kRunning;
}

Status Executor::Cancel(FrameQueue* queue, FrameQueue::State state) {
  const Faults faults = CurrentFaults();
  Lock lock(mutex_);
  // Callbacks must not do this; waiting for ourselves would never end.
  for (const std::thread& thread : threads_) {
    if (thread.get_id() == std::this_thread::get_id()) return kInvalidOperation;
  }
  ReactTo(faults);
  queue->state = state;
  queue->is_cancelling = true;
  queue->changed.notify_all();
  WakeAll();
  queue->changed.wait(
      lock, [&] { return (is_dead_ || !queue->is_cancelling) && !queue->is_computing && !queue->is_calling; });
  return is_dead_ ? kDriverOperationFailed : kSuccess;
}

void Executor::AbortAll() {
  Lock lock(mutex_);
  AbortAllLocked();
}

void Executor::AbortAllLocked() {
  for (FrameQueue* queue : queues_) {
    if (queue->state != FrameQueue::State::kRunning) continue;
    queue->state = FrameQueue::State::kAborted;
    queue->is_cancelling = true;
    queue->changed.notify_all();
  }
  WakeAll();
}

bool Executor::IsDead() {
  const Faults faults = CurrentFaults();
  Lock lock(mutex_);
  ReactTo(faults);
  return is_dead_;
}

void Executor::Wake() {
  // Empty, but needed: without it the wake-up could fall between a thread's look at the faults and its wait.
  { Lock lock(mutex_); }
  WakeAll();
}

void Executor::ReactTo(const Faults& faults) {
  if (!is_dead_ && faults.IsDead(born_unplug_count_)) {
    is_dead_ = true;
    for (FrameQueue* queue : queues_) queue->changed.notify_all();
  }
  if (faults.abort_count > aborts_seen_) {  // not "differs": these faults may be older than what we saw
    aborts_seen_ = faults.abort_count;
    AbortAllLocked();
  }
}

void Executor::Serve(bool computes, bool completes) {
  pthread_setname_np(pthread_self(), completes ? "CHANNEL_INTR" : "SOFT_NN_CORE");
  // The default slack of 50 us is more than some of the times that are modelled.
  prctl(PR_SET_TIMERSLACK, 1000);

  Lock lock(mutex_);
  while (!is_stopping_) {
    const Faults faults = CurrentFaults();
    ReactTo(faults);
    Clock::time_point wake = Clock::time_point::max();
    if (completes && !is_dead_) {
      const auto cancelled = std::find_if(queues_.begin(), queues_.end(), [](const FrameQueue* queue) {
        return queue->is_cancelling && !queue->is_computing;
      });
      if (cancelled != queues_.end()) {
        CompleteCancelled(*cancelled, &lock);
        continue;
      }
      FrameQueue* const queue = faults.set.stall || faults.set.runtime_error ? nullptr : NextCompletion();
      if (queue != nullptr) {
        wake = queue->At(queue->completed).due;
        if (wake <= Clock::now()) {
          if (faults.set.drop) {
            Drop(queue);
          } else {
            Complete(queue, faults.set.wrong, &lock);
          }
          continue;
        }
      }
    }
    if (computes && !is_dead_) {
      FrameQueue* const queue = NextRunnable();
      if (queue != nullptr) {
        Compute(queue, &lock);
        continue;
      }
    }
    if (wake != Clock::time_point::max()) {
      SleepUntil(wake, &lock);
    } else if (computes) {
      runnable_.wait(lock);
    } else {
      is_waiting_for_computed_ = true;
      completable_.wait(lock);
      is_waiting_for_computed_ = false;
    }
  }
}

void Executor::WakeAll() {
  runnable_.notify_all();
  completable_.notify_all();
}

void Executor::SleepUntil(Clock::time_point due, Lock* lock) {
  const Clock::time_point early = due - oversleep_;
  if (early <= Clock::now()) {
    lock->unlock();
    while (Clock::now() < due) {
    }
    lock->lock();
    return;
  }
  if (completable_.wait_until(*lock, early) == std::cv_status::no_timeout) return;
  const Clock::duration oversleep = std::clamp<Clock::duration>(Clock::now() - early, {}, kLongestOversleep);
  oversleep_ += (oversleep - oversleep_) / 8;
}

FrameQueue* Executor::NextRunnable() {
  for (size_t i = 0; i < queues_.size(); i++) {
    FrameQueue* const queue = queues_[(next_queue_ + i) % queues_.size()];
    if (queue->state != FrameQueue::State::kRunning || queue->is_cancelling || !queue->HasRunnable()) continue;
    next_queue_ = (next_queue_ + i + 1) % queues_.size();
    return queue;
  }
  return nullptr;
}

FrameQueue* Executor::NextCompletion() {
  FrameQueue* next = nullptr;
  for (FrameQueue* queue : queues_) {
    if (queue->computed == queue->completed || queue->is_cancelling) continue;
    if (next == nullptr || queue->At(queue->completed).order < next->At(next->completed).order) next = queue;
  }
  return next;
}

void Executor::Compute(FrameQueue* queue, Lock* lock) {
  FrameQueue::Frame& frame = queue->At(queue->started);
  const auto* const input =
      static_cast<const uint8_t*>(queue->lanes[0].transfers[queue->started % queue->depth].buffer);
  frame.order = next_order_++;
  frame.due = pipeline_.Completion(frame.arrival, clock_mhz_->load() / kFullClockMhz);
  queue->started++;
  queue->is_computing = true;
  lock->unlock();
  queue->network->Run(input, frame.output_bytes.data(), &queue->scratch);
  lock->lock();
  queue->computed++;
  queue->is_computing = false;
  queue->changed.notify_all();
  if (is_waiting_for_computed_) completable_.notify_one();
}

void Executor::Complete(FrameQueue* queue, bool is_wrong, Lock* lock) {
  const size_t slot = queue->completed % queue->depth;
  const FrameQueue::Frame& frame = queue->frames[slot];
  for (size_t lane = 0; lane < queue->lanes.size(); lane++) {
    const Transfer& transfer = queue->calls[lane] = queue->lanes[lane].transfers[slot];
    if (lane < queue->input_count) continue;
    auto* const target = static_cast<uint8_t*>(transfer.buffer);
    std::memcpy(target, frame.outputs[lane - queue->input_count].data(), transfer.bytes);
    for (size_t i = 0; is_wrong && i < transfer.bytes; i++) target[i] ^= kWrongMask;
  }
  // The place is free before the callback runs, which may submit the next frame.
  queue->completed++;
  CountFrame();
  Call(queue, kSuccess, lock);
}

void Executor::Drop(FrameQueue* queue) {
  queue->completed++;
  queue->lost++;
}

void Executor::CompleteCancelled(FrameQueue* queue, Lock* lock) {
  while (queue->HasPending()) {
    const uint64_t frame = queue->completed++;
    queue->started = std::max(queue->started, queue->completed);
    queue->computed = std::max(queue->computed, queue->completed);
    for (size_t lane = 0; lane < queue->lanes.size(); lane++) {
      FrameQueue::Lane& transfers = queue->lanes[lane];
      queue->calls[lane] = transfers.submitted > frame ? transfers.transfers[frame % queue->depth] : Transfer{};
      transfers.submitted = std::max(transfers.submitted, queue->completed);
    }
    Call(queue, kStreamAbort, lock);
  }
  queue->lost = 0;
  queue->is_cancelling = false;
  queue->changed.notify_all();
}

void Executor::Call(FrameQueue* queue, Status status, Lock* lock) {
  queue->is_calling = true;
  queue->changed.notify_all();
  lock->unlock();
  for (const Transfer& call : queue->calls) {
    if (call.callback == nullptr) continue;
    const CompletionInfo info = {status, call.buffer, call.bytes, call.opaque};
    call.callback(&info);
  }
  lock->lock();
  queue->is_calling = false;
  queue->changed.notify_all();
}

}  // namespace soft
