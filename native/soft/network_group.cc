#include "network_group.h"

#include <algorithm>
#include <cstring>

namespace soft {
namespace {

/// As HailoRT: at least the platform's depth, at least two batches, at most what 32 MiB of frames are.
size_t QueueDepth(const HefNetworkGroup& layout, size_t batch_size) {
  size_t largest = 1;
  for (const Layer& layer : layout.layers) largest = std::max(largest, layer.FrameBytes());
  const size_t least = std::max<size_t>(1, 2 * batch_size);
  return std::clamp((size_t{32} << 20) / largest, least, std::max(least, ConfiguredTiming().depth));
}

void CopyName(const std::string& from, char* to, size_t room) {
  std::memset(to, 0, room);
  std::memcpy(to, from.data(), std::min(from.size(), room - 1));
}

const StreamParametersByName* FindParams(const ConfigureNetworkGroupParams* params, const std::string& name) {
  if (params == nullptr) return nullptr;
  for (size_t i = 0; i < std::min<size_t>(params->stream_count, 40); i++) {
    if (name == std::string(params->streams[i].name, strnlen(params->streams[i].name, kNameBytes)))
      return &params->streams[i];
  }
  return nullptr;
}

/// True for a HEF that carries a network for us, for an architecture that the device may be taken for.
bool CanRun(const HefContents& hef) {
  if (!Network::IsIn(hef.mapping)) return false;
  // "The whole Hailo-8" is an architecture that no hardware accepts, which marks a HEF as made for us alone.
  if (hef.architecture == 0 || hef.architecture == 3) return true;
  return Chip::architecture() == kHailo8 && (hef.architecture == 1 || hef.architecture == 2);
}

}  // namespace

ConfiguredGroup::ConfiguredGroup(std::shared_ptr<VDeviceBase> base, std::shared_ptr<const HefNetworkGroup> layout,
                                 std::shared_ptr<const Network> network, const ConfigureNetworkGroupParams* params)
    : base_(std::move(base)),
      layout_(std::move(layout)),
      executor_(base_->NextExecutor()),
      queue_(std::move(network), *layout_, QueueDepth(*layout_, params != nullptr ? params->batch_size : 0)) {
  for (size_t lane = 0; lane < layout_->layers.size(); lane++) {
    const Layer& layer = layout_->layers[lane];
    Stream* stream;
    if (layer.direction == kHostToDevice) {
      inputs_.push_back(std::make_unique<InputStreamOpaque>());
      stream = inputs_.back().get();
    } else {
      outputs_.push_back(std::make_unique<OutputStreamOpaque>());
      stream = outputs_.back().get();
    }
    stream->group = this;
    stream->lane = lane;
    stream->layer = &layer;
    // The scheduler's streams are async whatever the parameters say.
    if (!base_->has_scheduler()) {
      const StreamParametersByName* const stream_params = FindParams(params, layer.name);
      stream->is_async_allowed =
          stream_params != nullptr && (stream_params->stream_params.flags & kStreamFlagsAsync) != 0;
    }
    streams_.push_back(stream);
  }
  executor_->Add(&queue_);
  if (base_->has_scheduler()) {
    is_activated_ = true;
    executor_->Activate(&queue_);
  }
}

ConfiguredGroup::~ConfiguredGroup() {
  executor_->Shutdown(&queue_);
  executor_->Remove(&queue_);
  base_->EndActivation(this);
}

Stream* ConfiguredGroup::FindStream(const char* name, Direction direction) {
  for (Stream* stream : streams_) {
    if (stream->layer->direction == direction && stream->layer->name == name) return stream;
  }
  return nullptr;
}

Status ConfiguredGroup::UseAs(Stream* stream, Stream::Mode mode) {
  std::lock_guard<std::mutex> lock(mutex_);
  if (mode == Stream::Mode::kAsync && !stream->is_async_allowed) return kInvalidOperation;
  if (stream->mode == Stream::Mode::kUndecided) stream->mode = mode;
  return stream->mode == mode ? kSuccess : kInvalidOperation;
}

bool ConfiguredGroup::Take(Stream* stream, std::weak_ptr<StreamUser> user) {
  std::lock_guard<std::mutex> lock(mutex_);
  if (!stream->user.expired()) return false;
  stream->user = std::move(user);
  return true;
}

void ConfiguredGroup::Leave(Stream* stream) {
  std::lock_guard<std::mutex> lock(mutex_);
  stream->user.reset();
}

void ConfiguredGroup::WakeUser(Stream* stream) {
  std::shared_ptr<StreamUser> user;
  {
    std::lock_guard<std::mutex> lock(mutex_);
    user = stream->user.lock();
  }
  if (user != nullptr) user->OnRoom();
}

Status ConfiguredGroup::Activate() {
  if (base_->has_scheduler()) return kInvalidOperation;
  if (IsDead()) return kDriverOperationFailed;
  if (!base_->TakeActivation(this)) return kInvalidOperation;
  {
    std::lock_guard<std::mutex> lock(mutex_);
    is_activated_ = true;
    executor_->Activate(&queue_);
  }
  for (Stream* stream : streams_) WakeUser(stream);
  return kSuccess;
}

Status ConfiguredGroup::Deactivate() {
  {
    std::lock_guard<std::mutex> lock(mutex_);
    is_activated_ = false;
  }
  const Status status = executor_->Deactivate(&queue_);
  base_->EndActivation(this);
  return status;
}

bool ConfiguredGroup::is_activated() {
  std::lock_guard<std::mutex> lock(mutex_);
  return is_activated_;
}

Status ConfiguredGroup::Shutdown() {
  DelayShutdown();
  return executor_->Shutdown(&queue_);
}

void ConfiguredGroup::Bury(std::shared_ptr<void> remains) {
  std::lock_guard<std::mutex> lock(mutex_);
  buried_.push_back(std::move(remains));
}

void DelayShutdown() {
  const uint32_t delay_ms = CurrentFaults().set.slow_shutdown_ms;
  if (delay_ms > 0) std::this_thread::sleep_for(std::chrono::milliseconds(delay_ms));
}

void FillConfigureParams(const HefNetworkGroup& group, ConfigureNetworkGroupParams* params) {
  std::memset(params, 0, sizeof *params);
  CopyName(group.name, params->name, sizeof params->name);
  for (const Layer& layer : group.layers) {
    if (params->stream_count == 40) break;
    StreamParametersByName& stream = params->streams[params->stream_count++];
    CopyName(layer.name, stream.name, sizeof stream.name);
    stream.stream_params.direction = layer.direction;
  }
  for (const std::string& network : group.networks) {
    if (params->network_count == 8) break;
    NetworkParametersByName& target = params->networks[params->network_count++];
    CopyName(network, target.name, sizeof target.name);
  }
}

Status Configure(VDeviceOpaque* vdevice, const HefContents& hef, const ConfigureParams* params,
                 NetworkGroupOpaque** groups, size_t* count) {
  if (vdevice->base->IsDead()) return kDriverOperationFailed;
  const FaultSet faults = CurrentFaults().set;
  if (faults.page_size) return kInternalFailure;
  if (faults.no_memory) return kOutOfHostCmaMemory;
  if (!CanRun(hef)) return HefNotCompatible();

  // Configured in order of name, like the map that HailoRT keeps its parameters in.
  std::map<std::string, const ConfigureNetworkGroupParams*> wanted;
  if (params == nullptr || params->count == 0) {
    for (const HefNetworkGroup& group : hef.network_groups) wanted[group.name] = nullptr;
  } else {
    for (size_t i = 0; i < std::min<size_t>(params->count, 8); i++) {
      const char* const name = params->groups[i].name;
      wanted[std::string(name, strnlen(name, kNameBytes))] = &params->groups[i];
    }
  }

  std::vector<std::unique_ptr<NetworkGroupOpaque>> made;
  for (const auto& [name, group_params] : wanted) {
    const auto layout = std::find_if(hef.network_groups.begin(), hef.network_groups.end(),
                                     [&, &name = name](const HefNetworkGroup& group) { return group.name == name; });
    if (layout == hef.network_groups.end()) return kNotFound;
    CoreOpKey key{name, hef.digest, 0, 0, std::vector<uint16_t>(layout->networks.size())};
    if (group_params != nullptr) {
      for (const Layer& layer : layout->layers) {
        if (FindParams(group_params, layer.name) == nullptr) return kInvalidArgument;
      }
      key.batch_size = group_params->batch_size;
      key.power_mode = group_params->power_mode;
      for (size_t i = 0; i < std::min<size_t>(key.network_batch_sizes.size(), 8); i++) {
        key.network_batch_sizes[i] = group_params->networks[i].batch_size;
      }
    }
    std::shared_ptr<const Network> network = Network::Load(hef.mapping, *layout, BestKernels());
    if (network == nullptr) return kInvalidHef;
    const Status status = vdevice->base->AddCoreOp(key, &network);
    if (status != kSuccess) return status;
    made.push_back(std::make_unique<NetworkGroupOpaque>(vdevice->base, std::make_shared<HefNetworkGroup>(*layout),
                                                        network, group_params));
  }
  if (made.size() > *count) return kInsufficientBuffer;

  std::lock_guard<std::mutex> lock(vdevice->mutex);
  for (size_t i = 0; i < made.size(); i++) {
    groups[i] = made[i].get();
    vdevice->groups.push_back(std::move(made[i]));
  }
  *count = made.size();
  return kSuccess;
}

}  // namespace soft
