// One claimed device at work: the frames of its network groups, the thread that computes them, and the
// interrupt thread that completes them.
#pragma once

#include <atomic>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "faults.h"
#include "network.h"
#include "timing.h"

namespace soft {

/// One buffer given to one stream.
struct Transfer {
  void* buffer;
  size_t bytes;
  CompletionCallback callback;
  void* opaque;
};

/// The transfers of one network group's streams. Frame i is transfer i of every stream: nothing but order pairs them.
/// All of it is guarded by its executor's mutex.
///
///   completed ≤ computed ≤ started ≤ submitted of every stream ≤ completed + depth
struct FrameQueue {
  FrameQueue(std::shared_ptr<const Network> network, const HefNetworkGroup& layout, size_t depth);

  enum class State { kInactive, kRunning, kAborted };
  struct Lane {
    uint64_t submitted = 0;
    std::vector<Transfer> transfers;  // frame i at i % depth
  };
  struct Frame {
    Clock::time_point arrival{}, due{};
    uint64_t order = 0;                         // among all frames of the device
    std::vector<std::vector<uint8_t>> outputs;  // results wait here: the host's buffers are written on completion
    std::vector<uint8_t*> output_bytes;
  };

  Frame& At(uint64_t frame) { return frames[frame % depth]; }
  bool IsFull(size_t lane) const { return lanes[lane].submitted - completed + lost >= depth; }
  bool HasRunnable() const;
  bool HasPending() const;
  void Push(size_t lane, const Transfer& transfer);

  const size_t depth;
  const std::shared_ptr<const Network> network;
  Network::Scratch scratch;
  size_t input_count = 0;
  std::vector<Lane> lanes;  // in the order of the layout's layers
  std::vector<Frame> frames;
  uint64_t started = 0, computed = 0, completed = 0;
  uint64_t lost = 0;  // dropped frames never give their place in the queue back
  State state = State::kInactive;
  bool is_cancelling = false;
  bool is_computing = false, is_calling = false;  // the executor's threads are in there without the mutex
  std::vector<Transfer> calls;                    // of the frame being completed
  std::condition_variable changed;
};

class Executor {
 public:
  explicit Executor(const std::atomic<uint32_t>* clock_mhz);
  ~Executor();

  void Add(FrameQueue* queue);
  /// Returns when no thread of the device touches the queue any more. No callback comes from it afterwards.
  void Remove(FrameQueue* queue);

  /// @returns 36 on a lost device, 63 after an abort, 72 before activation, 82 when the queue is full
  Status Submit(FrameQueue* queue, size_t lane, const Transfer& transfer);
  Status WaitForRoom(FrameQueue* queue, size_t lane, std::chrono::milliseconds timeout);
  /// Takes back the transfers of a lane that are in no frame yet. Their callbacks are not called.
  void Withdraw(FrameQueue* queue, size_t lane);

  void Activate(FrameQueue* queue);
  Status Deactivate(FrameQueue* queue) { return Cancel(queue, FrameQueue::State::kInactive); }
  /// Completes everything in flight with 63; what comes later gets 63 at once.
  Status Shutdown(FrameQueue* queue) { return Cancel(queue, FrameQueue::State::kAborted); }
  void AbortAll();

  /// True once the device was unplugged; it then stays true.
  bool IsDead();
  /// To be called when the faults may have changed.
  void Wake();

 private:
  using Lock = std::unique_lock<std::mutex>;

  void Serve(bool computes, bool completes);
  void ReactTo(const Faults& faults);
  Status Cancel(FrameQueue* queue, FrameQueue::State state);
  FrameQueue* NextRunnable();
  FrameQueue* NextCompletion();
  void Compute(FrameQueue* queue, Lock* lock);
  void Complete(FrameQueue* queue, bool is_wrong, Lock* lock);
  void Drop(FrameQueue* queue);
  void CompleteCancelled(FrameQueue* queue, Lock* lock);
  void Call(FrameQueue* queue, Status status, Lock* lock);
  void AbortAllLocked();
  void WakeAll();
  /// Waits until then as exactly as this system can, or until woken.
  void SleepUntil(Clock::time_point due, Lock* lock);

  const std::atomic<uint32_t>* const clock_mhz_;
  const uint32_t born_unplug_count_;

  std::mutex mutex_;
  std::condition_variable runnable_, completable_;  // one for each thread; a single one waits for the first
  bool is_waiting_for_computed_ = false;            // nothing to complete, now or later
  Clock::duration oversleep_{};                     // what a sleep takes longer than it should, on average
  std::vector<FrameQueue*> queues_;
  size_t next_queue_ = 0;  // frames are taken from the queues in turn
  uint64_t next_order_ = 0;
  uint32_t aborts_seen_;
  bool is_dead_ = false, is_stopping_ = false;
  Pipeline pipeline_;
  std::vector<std::thread> threads_;
};

}  // namespace soft
