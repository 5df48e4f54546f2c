#include "vdevice.h"

#include <algorithm>
#include <cctype>
#include <cstdio>
#include <cstring>

namespace soft {
namespace {

// One creation at a time: who comes second shall find what the first one made, not a device in use.
std::mutex creation_mutex;

std::map<std::string, std::weak_ptr<VDeviceBase>>& SharedBases() {
  static auto* const bases = new std::map<std::string, std::weak_ptr<VDeviceBase>>;
  return *bases;
}

std::string LowerCase(const DeviceId& id) {
  std::string text(id.id, strnlen(id.id, sizeof id.id));
  for (char& character : text) character = static_cast<char>(std::tolower(static_cast<unsigned char>(character)));
  return text;
}

bool IsPcieId(const std::string& id) {
  unsigned domain, bus, device, function;
  char rest;
  return std::sscanf(id.c_str(), "%x:%x:%x.%x%c", &domain, &bus, &device, &function, &rest) == 4 ||
         std::sscanf(id.c_str(), "%x:%x.%x%c", &bus, &device, &function, &rest) == 3;
}

}  // namespace

Status VDeviceBase::Open(const VDeviceParams& params, std::shared_ptr<VDeviceBase>* base) {
  if (params.device_count == 0) return kInvalidArgument;
  if (params.multi_process_service) return kInvalidOperation;
  if (params.scheduling_algorithm != kSchedulerNone && params.scheduling_algorithm != kSchedulerRoundRobin)
    return kInvalidArgument;

  const std::string group_id = params.group_id != nullptr ? params.group_id : "";
  const bool is_shared = group_id != kUniqueGroup;
  std::lock_guard<std::mutex> lock(creation_mutex);
  if (is_shared) {
    if (auto living = SharedBases()[group_id].lock()) {
      const Status status = living->CheckSame(params);
      if (status == kSuccess) *base = std::move(living);
      return status;
    }
  }
  std::shared_ptr<VDeviceBase> made(new VDeviceBase);
  const Status status = made->ClaimDevices(params);
  if (status != kSuccess) return status;
  made->group_id_ = group_id;
  made->has_scheduler_ = params.scheduling_algorithm == kSchedulerRoundRobin;
  if (is_shared) SharedBases()[group_id] = made;
  *base = std::move(made);
  return kSuccess;
}

void VDeviceBase::Close(std::shared_ptr<VDeviceBase> base) {
  std::lock_guard<std::mutex> lock(creation_mutex);
  base.reset();
}

Status VDeviceBase::ClaimDevices(const VDeviceParams& params) {
  const Faults faults = CurrentFaults();
  const bool has_driver = IsSince(20) || !Chip::All().empty();
  std::vector<Chip*> candidates;
  if (params.device_ids == nullptr) {
    if (!has_driver) return kDriverNotInstalled;
    if (!faults.set.unplug) candidates = Chip::All();
  } else {
    for (size_t i = 0; i < params.device_count; i++) {
      const std::string id = LowerCase(params.device_ids[i]);
      if (!IsPcieId(id)) return kInvalidArgument;
      if (!has_driver) return kDriverNotInstalled;
      Chip* const chip = Chip::Find(id);
      if (chip == nullptr) return kInvalidArgument;
      if (faults.set.unplug) return kOutOfPhysicalDevices;
      candidates.push_back(chip);
    }
  }
  if (candidates.empty()) return kOutOfPhysicalDevices;

  const Version& library = LibraryVersion();
  const Version& driver = faults.set.driver;
  if (driver.major != 0 && std::tie(driver.major, driver.minor, driver.revision) !=
                               std::tie(library.major, library.minor, library.revision)) {
    return kInvalidDriverVersion;
  }
  if (faults.set.firmware) return kUnsupportedFirmware;
  if (params.device_count > 1 && Chip::architecture() == kHailo8L) return kInvalidOperation;

  unplug_count_ = faults.unplug_count;
  for (Chip* chip : candidates) {
    if (chips_.size() == params.device_count) break;
    const Status status = faults.set.busy ? kDeviceInUse : chip->Claim();
    if (status == kDeviceInUse && params.device_ids == nullptr) continue;
    if (status != kSuccess) return status;
    chips_.push_back(chip);
    executors_.push_back(std::make_unique<Executor>(&chip->clock_mhz()));
    chip->Attach(executors_.back().get());
  }
  return chips_.size() == params.device_count ? kSuccess : kOutOfPhysicalDevices;
}

// Only the devices are compared: the first one's scheduler serves all.
Status VDeviceBase::CheckSame(const VDeviceParams& params) const {
  if (params.device_count != chips_.size()) return kInvalidOperation;
  for (size_t i = 0; params.device_ids != nullptr && i < params.device_count; i++) {
    const std::string id = LowerCase(params.device_ids[i]);
    if (std::none_of(chips_.begin(), chips_.end(), [&](const Chip* chip) { return chip->id() == id; }))
      return kInvalidOperation;
  }
  return kSuccess;
}

VDeviceBase::~VDeviceBase() {
  for (size_t i = 0; i < chips_.size(); i++) {
    chips_[i]->Detach(executors_[i].get());
    executors_[i].reset();
    chips_[i]->Unclaim(unplug_count_);
  }
}

bool VDeviceBase::IsDead() { return executors_[0]->IsDead(); }

Status VDeviceBase::AddCoreOp(const CoreOpKey& key, std::shared_ptr<const Network>* network) {
  std::lock_guard<std::mutex> lock(mutex_);
  for (const auto& core_op : core_ops_) {
    if (!has_scheduler_ || !(core_op.first == key)) continue;
    *network = core_op.second;
    return kSuccess;
  }
  if (core_ops_.size() == kMostCoreOps) return kInvalidOperation;
  core_ops_.emplace_back(key, *network);
  return kSuccess;
}

Executor* VDeviceBase::NextExecutor() {
  std::lock_guard<std::mutex> lock(mutex_);
  return executors_[next_executor_++ % executors_.size()].get();
}

bool VDeviceBase::TakeActivation(const void* group) {
  std::lock_guard<std::mutex> lock(mutex_);
  if (activated_ != nullptr) return false;
  activated_ = group;
  return true;
}

void VDeviceBase::EndActivation(const void* group) {
  std::lock_guard<std::mutex> lock(mutex_);
  if (activated_ == group) activated_ = nullptr;
}

void VDeviceBase::MapBuffer(const void* address, size_t bytes, int32_t direction) {
  std::lock_guard<std::mutex> lock(mutex_);
  mappings_[{address, bytes, direction}]++;
}

bool VDeviceBase::UnmapBuffer(const void* address, size_t bytes, int32_t direction) {
  std::lock_guard<std::mutex> lock(mutex_);
  const auto mapping = mappings_.find({address, bytes, direction});
  if (mapping == mappings_.end()) return false;
  if (--mapping->second == 0) mappings_.erase(mapping);
  return true;
}

}  // namespace soft
