// Configured network groups and their streams.
#pragma once

#include "vdevice.h"

namespace soft {

class ConfiguredGroup;

/// Who submits to a stream on its own account and must hear when there may be room again.
class StreamUser {
 public:
  virtual ~StreamUser() = default;
  virtual void OnRoom() = 0;
};

/// One input or output of one configured network group. The group owns it.
struct Stream {
  ConfiguredGroup* group;
  size_t lane;  // among the group's layers
  const Layer* layer;

  /// Sync and async calls exclude each other for the life of the group: whoever comes first decides. Guarded by the
  /// group.
  enum class Mode { kUndecided, kSync, kAsync } mode = Mode::kUndecided;
  bool is_async_allowed = true;
  std::weak_ptr<StreamUser> user;
};

/// A HEF's network group on a vdevice: own streams, own queue, results only for frames given to it.
class ConfiguredGroup {
 public:
  ConfiguredGroup(std::shared_ptr<VDeviceBase> base, std::shared_ptr<const HefNetworkGroup> layout,
                  std::shared_ptr<const Network> network, const ConfigureNetworkGroupParams* params);
  ~ConfiguredGroup();

  const HefNetworkGroup& layout() const { return *layout_; }
  VDeviceBase& vdevice() const { return *base_; }
  size_t depth() const { return queue_.depth; }
  Stream* FindStream(const char* name, Direction direction);
  size_t stream_count() const { return streams_.size(); }
  Stream* stream(size_t lane) const { return streams_[lane]; }

  /// Decides or checks the mode of a stream. @returns 6 when it is the other one
  Status UseAs(Stream* stream, Stream::Mode mode);
  /// Gives a stream to a vstream. False when another one has it.
  bool Take(Stream* stream, std::weak_ptr<StreamUser> user);
  void Leave(Stream* stream);
  void WakeUser(Stream* stream);

  Status Submit(Stream* stream, const Transfer& transfer) { return executor_->Submit(&queue_, stream->lane, transfer); }
  Status WaitForRoom(Stream* stream, std::chrono::milliseconds timeout) {
    return executor_->WaitForRoom(&queue_, stream->lane, timeout);
  }
  void Withdraw(Stream* stream) { executor_->Withdraw(&queue_, stream->lane); }
  bool IsDead() { return executor_->IsDead(); }

  Status Activate();
  Status Deactivate();
  bool is_activated();
  Status Shutdown();

  /// Keeps something alive until no transfer of this group can refer to it any more.
  void Bury(std::shared_ptr<void> remains);

 private:
  const std::shared_ptr<VDeviceBase> base_;
  const std::shared_ptr<const HefNetworkGroup> layout_;
  Executor* const executor_;

  std::mutex mutex_;
  bool is_activated_ = false;
  std::vector<std::shared_ptr<void>> buried_;

  std::vector<std::unique_ptr<InputStreamOpaque>> inputs_;
  std::vector<std::unique_ptr<OutputStreamOpaque>> outputs_;
  std::vector<Stream*> streams_;  // inputs, then outputs, as the layers
  FrameQueue queue_;
};

/// Sleeps as long as the fault `slow_shutdown` says.
void DelayShutdown();

/// What hailo_init_configure_params_by_vdevice gives for one network group.
void FillConfigureParams(const HefNetworkGroup& group, ConfigureNetworkGroupParams* params);

}  // namespace soft

namespace hailo_abi {
struct InputStreamOpaque : soft::Stream {};
struct OutputStreamOpaque : soft::Stream {};
struct NetworkGroupOpaque : soft::ConfiguredGroup {
  using ConfiguredGroup::ConfiguredGroup;
};
struct ActivatedNetworkGroupOpaque {
  soft::ConfiguredGroup* group;
};

/// One vdevice handle. Groups die with the handle that they were configured by, devices with the last handle.
struct VDeviceOpaque {
  std::shared_ptr<soft::VDeviceBase> base;
  std::mutex mutex;
  std::vector<std::unique_ptr<DeviceOpaque>> devices;
  std::vector<std::unique_ptr<NetworkGroupOpaque>> groups;
};
}  // namespace hailo_abi

namespace soft {

/// Configures the network groups that `params` name, all of the HEF's when null, and hands them to the vdevice.
/// @param count room in `groups`, then their number
Status Configure(VDeviceOpaque* vdevice, const HefContents& hef, const ConfigureParams* params,
                 NetworkGroupOpaque** groups, size_t* count);

}  // namespace soft
