// Virtual devices: the devices that one caller or group of callers holds, and what was configured on them.
#pragma once

#include <array>
#include <map>
#include <memory>
#include <tuple>

#include "device.h"

namespace soft {

/// Equal core ops share one place on the device; different ones are limited to 32.
struct CoreOpKey {
  std::string name;
  std::array<uint8_t, 16> hef_digest;
  uint16_t batch_size;
  int32_t power_mode;
  std::vector<uint16_t> network_batch_sizes;

  bool operator==(const CoreOpKey& other) const {
    return std::tie(name, hef_digest, batch_size, power_mode, network_batch_sizes) ==
           std::tie(other.name, other.hef_digest, other.batch_size, other.power_mode, other.network_batch_sizes);
  }
};

/// What several vdevice handles with one group id share.
class VDeviceBase {
 public:
  static constexpr size_t kMostCoreOps = 32;

  /// Joins the living vdevice of that group id, or claims devices for a new one.
  static Status Open(const VDeviceParams& params, std::shared_ptr<VDeviceBase>* base);
  /// Gives one's share back. The last one frees the devices before anyone else may look for free ones.
  static void Close(std::shared_ptr<VDeviceBase> base);
  ~VDeviceBase();

  const std::vector<Chip*>& chips() const { return chips_; }
  bool has_scheduler() const { return has_scheduler_; }
  bool IsDead();

  /// Counts the core op against the limit of the device, unless its equal is there already: then the two
  /// share one network, and `network` becomes that one.
  Status AddCoreOp(const CoreOpKey& key, std::shared_ptr<const Network>* network);
  /// The device for the next network group: with several, they take turns.
  Executor* NextExecutor();

  /// For scheduler NONE: one network group at a time.
  bool TakeActivation(const void* group);
  void EndActivation(const void* group);

  void MapBuffer(const void* address, size_t bytes, int32_t direction);
  /// False for a buffer that is not mapped.
  bool UnmapBuffer(const void* address, size_t bytes, int32_t direction);

 private:
  using Mapping = std::tuple<const void*, size_t, int32_t>;

  VDeviceBase() = default;
  Status ClaimDevices(const VDeviceParams& params);
  Status CheckSame(const VDeviceParams& params) const;

  std::string group_id_;
  bool has_scheduler_ = true;
  uint32_t unplug_count_ = 0;
  std::vector<Chip*> chips_;
  std::vector<std::unique_ptr<Executor>> executors_;

  std::mutex mutex_;
  std::vector<std::pair<CoreOpKey, std::shared_ptr<const Network>>> core_ops_;  // for good: none is ever unloaded
  size_t next_executor_ = 0;
  const void* activated_ = nullptr;
  std::map<Mapping, size_t> mappings_;  // and how often each
};

}  // namespace soft

namespace hailo_abi {
struct VDeviceOpaque;
struct HefOpaque : soft::HefContents {};
}  // namespace hailo_abi
