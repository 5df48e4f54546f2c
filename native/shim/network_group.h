// A HEF configured on the vdevice: one network group for each stream, or one for all of them.
#pragma once

#include <atomic>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <string>

#include "vdevice.h"

namespace shim {

/// A HEF, borrowed: it must stay as it is until the call returns.
struct HefBytes {
  const void* data;
  size_t size;
};

class NetworkGroup {
 public:
  /// With the scheduler a group of the stream's own: configuring the same HEF again with the same
  /// parameters makes a duplicate that shares the hardware and has its own streams and queue. In
  /// single-model mode the one group of the vdevice, activated by whoever comes first; another HEF is refused.
  /// @throws Failure
  static std::shared_ptr<NetworkGroup> Configure(const std::shared_ptr<VDevice>& vdevice, const HefBytes& hef);

  /// Blocks until nothing is in flight any more, which on a dead device may take minutes.
  ~NetworkGroup();
  NetworkGroup(const NetworkGroup&) = delete;

  const std::shared_ptr<VDevice> vdevice;
  hailo_abi::NetworkGroup handle() const { return group_; }
  /// What DMA buffers are mapped with.
  hailo_abi::VDevice vdevice_handle() const { return vdevice_handle_; }

  /// Ends all that is in flight with HAILO_STREAM_ABORT and leaves the group unusable. For all its streams.
  void ShutDown();
  bool is_shared() const { return is_shared_; }

  /// Frame i of one stream belongs to frame i of the others: held while one window is submitted.
  std::mutex submit_mutex;

  /// Windows that the group takes at once: `depth` of one stream, or shared by all of them.
  void SetDepth(size_t depth);
  /// Waits for room, at most `timeout`. A full queue would refuse the write of a window whose reads
  /// are queued already, and every later window would get its predecessor's result.
  bool TakeCredit(std::chrono::milliseconds timeout);
  void GiveCredit();

 private:
  NetworkGroup(const std::shared_ptr<VDevice>& vdevice, const HefBytes& hef, bool is_shared);
  void ConfigureHef(const HefBytes& hef);

  const bool is_shared_;
  const size_t hef_hash_;
  hailo_abi::VDevice vdevice_handle_ = nullptr;
  hailo_abi::NetworkGroup group_ = nullptr;
  hailo_abi::ActivatedNetworkGroup activated_ = nullptr;
  std::atomic<bool> is_shut_down_{false};
  std::mutex shutdown_mutex_;  // a second caller waits until the first is through

  std::mutex credit_mutex_;
  std::condition_variable credit_given_;
  size_t depth_ = 0;
  size_t in_flight_ = 0;
};

}  // namespace shim
