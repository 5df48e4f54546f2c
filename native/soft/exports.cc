// The functions of libhailort: argument checks, and who answers. Nothing else happens here.
//
// Only what HailoRT itself checks is checked; a handle that was released or made up is undefined there, too.

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <new>

#include "vstream.h"

#define SOFT_EXPORT extern "C" __attribute__((visibility("default")))

using namespace hailo_abi;
using namespace soft;

#define SOFT_DECLARE(name, result, parameters) SOFT_EXPORT result hailo_##name parameters;
HAILORT_FUNCTIONS(SOFT_DECLARE)
#undef SOFT_DECLARE

// Not needed by the shim, but small, and useful to whoever tries this library by hand.
SOFT_EXPORT Status hailo_flush_input_vstream(InputVStream vstream);
SOFT_EXPORT Status hailo_clear_input_vstreams(const InputVStream* vstreams, size_t count);
SOFT_EXPORT Status hailo_clear_output_vstreams(const OutputVStream* vstreams, size_t count);

/// Replaces the faults in force; "" heals. @returns 0, or 2 when `faults` does not parse
SOFT_EXPORT int32_t softhailort_control(const char* faults);
/// Frames completed since the library was loaded.
SOFT_EXPORT uint64_t softhailort_frames();

namespace {

// A stream buffer's alignment that HailoRT insists on.
constexpr uintptr_t kBufferAlignment = 8;

// Timeouts of "for ever" would overflow the clock.
constexpr uint32_t kLongestWaitMs = 24 * 3600 * 1000;

// What a new vstream waits, in the real library, too.
constexpr uint32_t kVStreamTimeoutMs = 10'000;
constexpr uint32_t kVStreamQueueSize = 2;

/// HailoRT leaves an empty log file wherever it is loaded, unless told not to. Whoever loads it must tell it.
__attribute__((constructor)) void LeaveLogFile() {
  if (std::getenv("HAILORT_LOGGER_PATH") != nullptr) return;
  if (FILE* const log = std::fopen("hailort.log", "a")) std::fclose(log);
}

/// Runs what may need memory that is not there.
template <typename Function>
Status Guarded(Function function) {
  try {
    return function();
  } catch (const std::bad_alloc&) {
    return kOutOfHostMemory;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "softhailort: %s\n", error.what());
    return kInternalFailure;
  }
}

template <size_t kBytes>
void CopyText(const std::string& text, char (&target)[kBytes]) {
  std::memset(target, 0, kBytes);
  std::memcpy(target, text.data(), std::min(text.size(), kBytes - 1));
}

Format StreamFormat(const Layer& layer) { return {layer.HardwareType(), layer.hardware_order, 0}; }
Format VStreamFormat(const Layer& layer) { return {layer.HardwareType(), layer.user_order, 0}; }

template <typename Info>
void FillStreamInfo(const Layer& layer, void* target) {
  Info info{};
  info.shape = layer.shape;
  info.hardware_shape = layer.hardware_shape;
  info.hardware_data_bytes = layer.data_bytes;
  info.hardware_frame_bytes = static_cast<uint32_t>(layer.FrameBytes());
  info.format = StreamFormat(layer);
  info.direction = layer.direction;
  info.index = layer.index;
  CopyText(layer.name, info.name);
  info.quant_info = layer.quant_info;
  std::memcpy(target, &info, sizeof info);
}

template <typename Info>
void FillVStreamInfo(const Layer& layer, void* target) {
  Info info{};
  CopyText(layer.name, info.name);
  CopyText(layer.network_name, info.network_name);
  info.direction = layer.direction;
  info.format = VStreamFormat(layer);
  info.shape = layer.shape;
  info.quant_info = layer.quant_info;
  std::memcpy(target, &info, sizeof info);
}

size_t StreamInfoBytes() { return IsSince(20) ? sizeof(StreamInfo) : sizeof(StreamInfoBefore420); }
size_t VStreamInfoBytes() { return IsSince(20) ? sizeof(VStreamInfo) : sizeof(VStreamInfoBefore420); }

void WriteStreamInfo(const Layer& layer, void* infos, size_t index) {
  auto* const target = static_cast<uint8_t*>(infos) + index * StreamInfoBytes();
  IsSince(20) ? FillStreamInfo<StreamInfo>(layer, target) : FillStreamInfo<StreamInfoBefore420>(layer, target);
}

void WriteVStreamInfo(const Layer& layer, void* infos, size_t index) {
  auto* const target = static_cast<uint8_t*>(infos) + index * VStreamInfoBytes();
  IsSince(20) ? FillVStreamInfo<VStreamInfo>(layer, target) : FillVStreamInfo<VStreamInfoBefore420>(layer, target);
}

/// The usual way to hand out an array: the room comes in by `count`, the number goes out, whether it fits or not.
Status GiveCount(size_t number, size_t* count) {
  const bool fits = number <= *count;
  *count = number;
  return fits ? kSuccess : kInsufficientBuffer;
}

Status GiveQuantInfos(const Layer& layer, QuantInfo* infos, size_t* count) {
  if (infos == nullptr || count == nullptr) return kInvalidArgument;
  const Status status = GiveCount(layer.quant_infos.size(), count);
  if (status == kSuccess) std::copy(layer.quant_infos.begin(), layer.quant_infos.end(), infos);
  return status;
}

Status GetStream(NetworkGroup group, const char* name, Direction direction, soft::Stream** stream) {
  if (group == nullptr || name == nullptr) return kInvalidArgument;
  if (group->IsDead()) return kDriverOperationFailed;
  *stream = group->FindStream(name, direction);
  return *stream != nullptr ? kSuccess : kNotFound;
}

Status WaitForRoom(soft::Stream* stream, size_t bytes, uint32_t timeout_ms) {
  if (stream == nullptr) return kInvalidArgument;
  const Status status = stream->group->UseAs(stream, soft::Stream::Mode::kAsync);
  if (status != kSuccess) return status;
  if (bytes != stream->layer->FrameBytes()) return kInvalidOperation;
  return stream->group->WaitForRoom(stream, std::chrono::milliseconds(std::min(timeout_ms, kLongestWaitMs)));
}

Status SubmitRaw(soft::Stream* stream, void* buffer, size_t bytes, CompletionCallback callback, void* opaque) {
  if (stream == nullptr || buffer == nullptr || callback == nullptr) return kInvalidArgument;
  if (reinterpret_cast<uintptr_t>(buffer) % kBufferAlignment != 0) return kInvalidArgument;
  if (bytes != stream->layer->FrameBytes()) return kInvalidArgument;
  const Status status = stream->group->UseAs(stream, soft::Stream::Mode::kAsync);
  if (status != kSuccess) return status;
  return stream->group->Submit(stream, {buffer, bytes, callback, opaque});
}

Status CheckSchedulerSetting(NetworkGroup group) {
  if (group == nullptr) return kInvalidArgument;
  if (group->IsDead()) return kDriverOperationFailed;
  return group->vdevice().has_scheduler() ? kSuccess : kInvalidOperation;
}

Status MakeVStreamParams(NetworkGroup group, Direction direction, int32_t type, VStreamParamsByName* params,
                         size_t* count) {
  if (group == nullptr || params == nullptr || count == nullptr) return kInvalidArgument;
  std::vector<const Layer*> layers;
  for (const Layer& layer : group->layout().layers) {
    if (layer.direction == direction) layers.push_back(&layer);
  }
  const Status status = GiveCount(layers.size(), count);
  if (status != kSuccess) return status;
  for (size_t i = 0; i < layers.size(); i++) {
    params[i] = {};
    CopyText(layers[i]->name, params[i].name);
    params[i].params.format.type = type;
    params[i].params.timeout_ms = kVStreamTimeoutMs;
    params[i].params.queue_size = kVStreamQueueSize;
  }
  return kSuccess;
}

template <typename Handle>
Status CreateVStreams(NetworkGroup group, Direction direction, const VStreamParamsByName* params, size_t count,
                      Handle* vstreams) {
  if (group == nullptr || params == nullptr || vstreams == nullptr) return kInvalidArgument;
  if (group->IsDead()) return kDriverOperationFailed;
  return Guarded([&] {
    std::vector<std::shared_ptr<VStream>> made;
    for (size_t i = 0; i < count; i++) {
      std::shared_ptr<VStream> vstream;
      const Status status = VStream::Make(group, direction, params[i], &vstream);
      if (status != kSuccess) {
        for (auto& earlier : made) VStream::Release(std::move(earlier));
        return status;
      }
      made.push_back(std::move(vstream));
    }
    for (size_t i = 0; i < count; i++) vstreams[i] = new std::remove_pointer_t<Handle>{std::move(made[i])};
    return kSuccess;
  });
}

template <typename Handle>
Status ReleaseVStreams(const Handle* vstreams, size_t count) {
  if (vstreams == nullptr) return kInvalidArgument;
  for (size_t i = 0; i < count; i++) {
    if (vstreams[i] == nullptr) return kInvalidArgument;
    VStream::Release(std::move(vstreams[i]->vstream));
    delete vstreams[i];
  }
  return kSuccess;
}

template <typename Handle>
Status ClearVStreams(const Handle* vstreams, size_t count) {
  if (vstreams == nullptr) return kInvalidArgument;
  for (size_t i = 0; i < count; i++) vstreams[i]->vstream->Clear();
  return kSuccess;
}

template <typename Context>
Status CreateTransform(soft::Stream* stream, const TransformParams* params, Context** context) {
  if (stream == nullptr || params == nullptr || context == nullptr) return kInvalidArgument;
  return Guarded([&] {
    auto made = std::make_unique<Context>();
    const Status status = Transform::Make(*stream->layer, params->user_format, made.get());
    if (status == kSuccess) *context = made.release();
    return status;
  });
}

}  // namespace

// Library

Status hailo_get_library_version(Version* version) {
  if (version == nullptr) return kInvalidArgument;
  *version = LibraryVersion();
  return kSuccess;
}

const char* hailo_get_status_message(int32_t status) { return StatusMessage(status); }

int32_t softhailort_control(const char* faults) {
  if (faults == nullptr || !SetFaults(faults)) return kInvalidArgument;
  Chip::WakeAll();
  return kSuccess;
}

uint64_t softhailort_frames() { return FrameCount(); }

// Devices

Status hailo_scan_devices(void* null_params, DeviceId* ids, size_t* count) {
  if (null_params != nullptr || ids == nullptr || count == nullptr) return kInvalidArgument;
  if (Chip::All().empty() && !IsSince(20)) return kDriverNotInstalled;
  const std::vector<Chip*> found = CurrentFaults().set.unplug ? std::vector<Chip*>() : Chip::All();
  const Status status = GiveCount(found.size(), count);
  for (size_t i = 0; status == kSuccess && i < found.size(); i++) CopyText(found[i]->id(), ids[i].id);
  return status;
}

Status hailo_create_device_by_id(const DeviceId* id, Device* device) {
  if (device == nullptr) return kInvalidArgument;
  return Guarded([&] {
    const bool is_unplugged = CurrentFaults().set.unplug;
    Chip* chip = nullptr;
    if (Chip::All().empty() && !IsSince(20)) return kDriverNotInstalled;
    if (id == nullptr) {
      // Without an id there must be exactly one.
      if (Chip::All().size() != 1 || is_unplugged) return kInvalidOperation;
      chip = Chip::All()[0];
    } else {
      chip = Chip::Find(std::string(id->id, strnlen(id->id, sizeof id->id)));
      if (chip == nullptr || is_unplugged) return kInvalidArgument;
    }
    *device = new DeviceOpaque(chip);
    return kSuccess;
  });
}

Status hailo_release_device(Device device) {
  if (device == nullptr) return kInvalidArgument;
  delete device;
  return kSuccess;
}

Status hailo_identify(Device device, DeviceIdentity* identity) {
  if (device == nullptr || identity == nullptr) return kInvalidArgument;
  const Status status = device->Check(true);
  if (status != kSuccess) return status;
  *identity = {};
  identity->protocol_version = 2;
  identity->firmware_version = LibraryVersion();
  identity->is_release = true;
  identity->architecture = Chip::architecture();
  const auto give = [](const std::string& text, auto& target, uint8_t* length) {
    CopyText(text, target);
    *length = static_cast<uint8_t>(text.size());
  };
  give("Hailo-8 (software)", identity->board_name, &identity->board_name_length);
  give(device->chip->serial_number(), identity->serial_number, &identity->serial_number_length);
  give("<N/A>", identity->part_number, &identity->part_number_length);
  give("software HailoRT", identity->product_name, &identity->product_name_length);
  return kSuccess;
}

Status hailo_get_extended_device_information(Device device, ExtendedDeviceInformation* information) {
  if (device == nullptr || information == nullptr) return kInvalidArgument;
  const Status status = device->Check(true);
  if (status != kSuccess) return status;
  ExtendedDeviceInformation filled{};
  filled.neural_network_core_clock_hz = device->chip->clock_mhz() * 1'000'000;
  filled.boot_source = 1;  // PCIe
  const std::string& serial_number = device->chip->serial_number();
  std::memcpy(filled.soc_id, serial_number.data(), std::min(serial_number.size(), sizeof filled.soc_id));
  // The caller's structure may be the smaller one of its release: not a byte more than that.
  std::memcpy(information, &filled, ExtendedInformationBytes());
  return kSuccess;
}

Status hailo_get_device_id(Device device, DeviceId* id) {
  if (device == nullptr || id == nullptr) return kInvalidArgument;
  CopyText(device->chip->id(), id->id);
  return kSuccess;
}

Status hailo_get_chip_temperature(Device device, ChipTemperature* temperature) {
  if (device == nullptr || temperature == nullptr) return kInvalidArgument;
  const Status status = device->Check(true);
  if (status != kSuccess) return status;
  const float celsius = device->chip->MeasureTemperature();
  *temperature = {celsius, celsius, 1};
  return kSuccess;
}

Status hailo_get_throttling_state(Device device, bool* is_protection_enabled) {
  if (device == nullptr || is_protection_enabled == nullptr) return kInvalidArgument;
  const Status status = device->Check(true);
  if (status == kSuccess) *is_protection_enabled = true;
  return status;
}

Status hailo_set_notification_callback(Device device, NotificationCallback callback, int32_t notification_id,
                                       void* opaque) {
  if (device == nullptr || callback == nullptr) return kInvalidArgument;
  if (notification_id < 0 || notification_id >= DeviceHandle::kNotificationIds) return kInvalidArgument;
  const Status status = device->Check(false);
  if (status == kSuccess) device->chip->Listen(device, notification_id, {callback, opaque});
  return status;
}

Status hailo_remove_notification_callback(Device device, int32_t notification_id) {
  if (device == nullptr || notification_id < 0 || notification_id >= DeviceHandle::kNotificationIds)
    return kInvalidArgument;
  device->chip->Listen(device, notification_id, {});
  return kSuccess;
}

// Virtual devices

Status hailo_init_vdevice_params(VDeviceParams* params) {
  if (params == nullptr) return kInvalidArgument;
  *params = {};
  params->device_count = 1;
  params->scheduling_algorithm = kSchedulerRoundRobin;
  params->group_id = kUniqueGroup;
  return kSuccess;
}

Status hailo_create_vdevice(const VDeviceParams* params, VDevice* vdevice) {
  if (vdevice == nullptr) return kInvalidArgument;
  return Guarded([&] {
    VDeviceParams defaults;
    hailo_init_vdevice_params(&defaults);
    auto made = std::make_unique<VDeviceOpaque>();
    const Status status = VDeviceBase::Open(params != nullptr ? *params : defaults, &made->base);
    if (status != kSuccess) return status;
    for (Chip* chip : made->base->chips()) made->devices.push_back(std::make_unique<DeviceOpaque>(chip));
    *vdevice = made.release();
    return kSuccess;
  });
}

Status hailo_release_vdevice(VDevice vdevice) {
  if (vdevice == nullptr) return kInvalidArgument;
  DelayShutdown();
  vdevice->groups.clear();
  vdevice->devices.clear();
  VDeviceBase::Close(std::move(vdevice->base));
  delete vdevice;
  return kSuccess;
}

Status hailo_get_physical_devices(VDevice vdevice, Device* devices, size_t* count) {
  if (vdevice == nullptr || devices == nullptr || count == nullptr) return kInvalidArgument;
  const Status status = GiveCount(vdevice->devices.size(), count);
  for (size_t i = 0; status == kSuccess && i < *count; i++) devices[i] = vdevice->devices[i].get();
  return status;
}

Status hailo_vdevice_get_physical_devices_ids(VDevice vdevice, DeviceId* ids, size_t* count) {
  if (vdevice == nullptr || ids == nullptr || count == nullptr) return kInvalidArgument;
  const Status status = GiveCount(vdevice->devices.size(), count);
  for (size_t i = 0; status == kSuccess && i < *count; i++) CopyText(vdevice->devices[i]->chip->id(), ids[i].id);
  return status;
}

Status hailo_vdevice_dma_map_buffer(VDevice vdevice, void* address, size_t bytes, int32_t direction) {
  if (vdevice == nullptr || address == nullptr || bytes == 0) return kInvalidArgument;
  if (direction != kHostToDevice && direction != kDeviceToHost) return kInvalidArgument;
  if (vdevice->base->IsDead()) return kDriverOperationFailed;
  vdevice->base->MapBuffer(address, bytes, direction);
  return kSuccess;
}

Status hailo_vdevice_dma_unmap_buffer(VDevice vdevice, void* address, size_t bytes, int32_t direction) {
  if (vdevice == nullptr || address == nullptr) return kInvalidArgument;
  if (vdevice->base->IsDead()) return kDriverOperationFailed;
  return vdevice->base->UnmapBuffer(address, bytes, direction) ? kSuccess : kNotFound;
}

// HEF files

Status hailo_create_hef_file(Hef* hef, const char* path) {
  if (hef == nullptr || path == nullptr) return kInvalidArgument;
  return Guarded([&] {
    auto made = std::make_unique<HefOpaque>();
    const Status status = ReadHefFile(path, made.get());
    if (status == kSuccess) *hef = made.release();
    return status;
  });
}

Status hailo_create_hef_buffer(Hef* hef, const void* buffer, size_t bytes) {
  if (hef == nullptr || buffer == nullptr) return kInvalidArgument;
  return Guarded([&] {
    auto made = std::make_unique<HefOpaque>();
    const Status status = ReadHefBuffer(static_cast<const uint8_t*>(buffer), bytes, made.get());
    if (status == kSuccess) *hef = made.release();
    return status;
  });
}

Status hailo_release_hef(Hef hef) {
  if (hef == nullptr) return kInvalidArgument;
  delete hef;
  return kSuccess;
}

Status hailo_get_network_groups_infos(Hef hef, NetworkGroupInfo* infos, size_t* count) {
  if (hef == nullptr || infos == nullptr || count == nullptr) return kInvalidArgument;
  const Status status = GiveCount(hef->network_groups.size(), count);
  for (size_t i = 0; status == kSuccess && i < *count; i++) {
    CopyText(hef->network_groups[i].name, infos[i].name);
    infos[i].is_multi_context = hef->network_groups[i].is_multi_context;
  }
  return status;
}

Status hailo_hef_get_all_vstream_infos(Hef hef, const char* name, void* infos, size_t* count) {
  if (hef == nullptr || infos == nullptr || count == nullptr) return kInvalidArgument;
  const HefNetworkGroup* const group = hef->Find(name);
  if (group == nullptr) return kNotFound;
  const Status status = GiveCount(group->layers.size(), count);
  for (size_t i = 0; status == kSuccess && i < *count; i++) WriteVStreamInfo(group->layers[i], infos, i);
  return status;
}

Status hailo_hef_get_all_stream_infos(Hef hef, const char* name, void* infos, size_t room, size_t* count) {
  if (hef == nullptr || infos == nullptr || count == nullptr) return kInvalidArgument;
  const HefNetworkGroup* const group = hef->Find(name);
  if (group == nullptr) return kNotFound;
  if (group->layers.size() > room) return kInsufficientBuffer;
  *count = group->layers.size();
  for (size_t i = 0; i < *count; i++) WriteStreamInfo(group->layers[i], infos, i);
  return kSuccess;
}

Status hailo_hef_get_bottleneck_fps(Hef hef, const char* name, double* frames_per_second) {
  if (hef == nullptr || frames_per_second == nullptr) return kInvalidArgument;
  const HefNetworkGroup* const group = hef->Find(name);
  if (group == nullptr) return kNotFound;
  *frames_per_second = group->bottleneck_fps;
  return kSuccess;
}

// Network groups

Status hailo_init_configure_params_by_vdevice(Hef hef, VDevice vdevice, ConfigureParams* params) {
  if (hef == nullptr || vdevice == nullptr || params == nullptr) return kInvalidArgument;
  params->count = std::min<size_t>(hef->network_groups.size(), 8);
  for (size_t i = 0; i < params->count; i++) FillConfigureParams(hef->network_groups[i], &params->groups[i]);
  return kSuccess;
}

Status hailo_configure_vdevice(VDevice vdevice, Hef hef, ConfigureParams* params, NetworkGroup* groups, size_t* count) {
  if (vdevice == nullptr || hef == nullptr || groups == nullptr || count == nullptr) return kInvalidArgument;
  return Guarded([&] { return Configure(vdevice, *hef, params, groups, count); });
}

Status hailo_shutdown_network_group(NetworkGroup group) {
  return group != nullptr ? group->Shutdown() : kInvalidArgument;
}

Status hailo_activate_network_group(NetworkGroup group, void*, ActivatedNetworkGroup* activated) {
  if (group == nullptr || activated == nullptr) return kInvalidArgument;
  const Status status = group->Activate();
  if (status == kSuccess) *activated = new ActivatedNetworkGroupOpaque{group};
  return status;
}

Status hailo_deactivate_network_group(ActivatedNetworkGroup activated) {
  if (activated == nullptr) return kInvalidArgument;
  const Status status = activated->group->Deactivate();
  delete activated;
  return status;
}

// Which frame runs next is not modelled beyond taking turns, so these only say whether they would be taken.
Status hailo_set_scheduler_timeout(NetworkGroup group, uint32_t, const char*) { return CheckSchedulerSetting(group); }
Status hailo_set_scheduler_threshold(NetworkGroup group, uint32_t, const char*) { return CheckSchedulerSetting(group); }

Status hailo_set_scheduler_priority(NetworkGroup group, uint8_t priority, const char*) {
  constexpr uint8_t kHighestPriority = 31;
  return priority <= kHighestPriority ? CheckSchedulerSetting(group) : kInvalidArgument;
}

// Raw streams

Status hailo_get_input_stream(NetworkGroup group, const char* name, InputStream* stream) {
  soft::Stream* found = nullptr;
  const Status status = stream != nullptr ? GetStream(group, name, kHostToDevice, &found) : kInvalidArgument;
  if (status == kSuccess) *stream = static_cast<InputStream>(found);
  return status;
}

Status hailo_get_output_stream(NetworkGroup group, const char* name, OutputStream* stream) {
  soft::Stream* found = nullptr;
  const Status status = stream != nullptr ? GetStream(group, name, kDeviceToHost, &found) : kInvalidArgument;
  if (status == kSuccess) *stream = static_cast<OutputStream>(found);
  return status;
}

size_t hailo_get_input_stream_frame_size(InputStream stream) {
  return stream != nullptr ? stream->layer->FrameBytes() : 0;
}
size_t hailo_get_output_stream_frame_size(OutputStream stream) {
  return stream != nullptr ? stream->layer->FrameBytes() : 0;
}

Status hailo_get_input_stream_info(InputStream stream, void* info) {
  if (stream == nullptr || info == nullptr) return kInvalidArgument;
  WriteStreamInfo(*stream->layer, info, 0);
  return kSuccess;
}

Status hailo_get_output_stream_info(OutputStream stream, void* info) {
  if (stream == nullptr || info == nullptr) return kInvalidArgument;
  WriteStreamInfo(*stream->layer, info, 0);
  return kSuccess;
}

Status hailo_get_input_stream_quant_infos(InputStream stream, QuantInfo* infos, size_t* count) {
  return stream != nullptr ? GiveQuantInfos(*stream->layer, infos, count) : kInvalidArgument;
}

Status hailo_get_output_stream_quant_infos(OutputStream stream, QuantInfo* infos, size_t* count) {
  return stream != nullptr ? GiveQuantInfos(*stream->layer, infos, count) : kInvalidArgument;
}

Status hailo_input_stream_get_async_max_queue_size(InputStream stream, size_t* frames) {
  if (stream == nullptr || frames == nullptr) return kInvalidArgument;
  *frames = stream->group->depth();
  return kSuccess;
}

Status hailo_output_stream_get_async_max_queue_size(OutputStream stream, size_t* frames) {
  if (stream == nullptr || frames == nullptr) return kInvalidArgument;
  *frames = stream->group->depth();
  return kSuccess;
}

Status hailo_stream_wait_for_async_input_ready(InputStream stream, size_t bytes, uint32_t timeout_ms) {
  return WaitForRoom(stream, bytes, timeout_ms);
}

Status hailo_stream_wait_for_async_output_ready(OutputStream stream, size_t bytes, uint32_t timeout_ms) {
  return WaitForRoom(stream, bytes, timeout_ms);
}

Status hailo_stream_write_raw_buffer_async(InputStream stream, const void* buffer, size_t bytes,
                                           CompletionCallback callback, void* opaque) {
  return SubmitRaw(stream, const_cast<void*>(buffer), bytes, callback, opaque);
}

Status hailo_stream_read_raw_buffer_async(OutputStream stream, void* buffer, size_t bytes, CompletionCallback callback,
                                          void* opaque) {
  return SubmitRaw(stream, buffer, bytes, callback, opaque);
}

// Virtual streams

Status hailo_make_input_vstream_params(NetworkGroup group, bool, int32_t format_type, VStreamParamsByName* params,
                                       size_t* count) {
  return MakeVStreamParams(group, kHostToDevice, format_type, params, count);
}

Status hailo_make_output_vstream_params(NetworkGroup group, bool, int32_t format_type, VStreamParamsByName* params,
                                        size_t* count) {
  return MakeVStreamParams(group, kDeviceToHost, format_type, params, count);
}

Status hailo_create_input_vstreams(NetworkGroup group, const VStreamParamsByName* params, size_t count,
                                   InputVStream* vstreams) {
  return CreateVStreams(group, kHostToDevice, params, count, vstreams);
}

Status hailo_create_output_vstreams(NetworkGroup group, const VStreamParamsByName* params, size_t count,
                                    OutputVStream* vstreams) {
  return CreateVStreams(group, kDeviceToHost, params, count, vstreams);
}

Status hailo_get_input_vstream_frame_size(InputVStream vstream, size_t* bytes) {
  if (vstream == nullptr || bytes == nullptr) return kInvalidArgument;
  *bytes = vstream->vstream->FrameBytes();
  return kSuccess;
}

Status hailo_get_output_vstream_frame_size(OutputVStream vstream, size_t* bytes) {
  if (vstream == nullptr || bytes == nullptr) return kInvalidArgument;
  *bytes = vstream->vstream->FrameBytes();
  return kSuccess;
}

Status hailo_get_input_vstream_info(InputVStream vstream, void* info) {
  if (vstream == nullptr || info == nullptr) return kInvalidArgument;
  WriteVStreamInfo(vstream->vstream->layer(), info, 0);
  return kSuccess;
}

Status hailo_get_output_vstream_info(OutputVStream vstream, void* info) {
  if (vstream == nullptr || info == nullptr) return kInvalidArgument;
  WriteVStreamInfo(vstream->vstream->layer(), info, 0);
  return kSuccess;
}

Status hailo_get_input_vstream_quant_infos(InputVStream vstream, QuantInfo* infos, size_t* count) {
  return vstream != nullptr ? GiveQuantInfos(vstream->vstream->layer(), infos, count) : kInvalidArgument;
}

Status hailo_get_output_vstream_quant_infos(OutputVStream vstream, QuantInfo* infos, size_t* count) {
  return vstream != nullptr ? GiveQuantInfos(vstream->vstream->layer(), infos, count) : kInvalidArgument;
}

Status hailo_vstream_write_raw_buffer(InputVStream vstream, const void* buffer, size_t bytes) {
  return vstream != nullptr ? vstream->vstream->Write(buffer, bytes) : kInvalidArgument;
}

Status hailo_vstream_read_raw_buffer(OutputVStream vstream, void* buffer, size_t bytes) {
  return vstream != nullptr ? vstream->vstream->Read(buffer, bytes) : kInvalidArgument;
}

Status hailo_flush_input_vstream(InputVStream vstream) {
  return vstream != nullptr ? vstream->vstream->Flush() : kInvalidArgument;
}

Status hailo_clear_input_vstreams(const InputVStream* vstreams, size_t count) { return ClearVStreams(vstreams, count); }
Status hailo_clear_output_vstreams(const OutputVStream* vstreams, size_t count) {
  return ClearVStreams(vstreams, count);
}
Status hailo_release_input_vstreams(const InputVStream* vstreams, size_t count) {
  return ReleaseVStreams(vstreams, count);
}
Status hailo_release_output_vstreams(const OutputVStream* vstreams, size_t count) {
  return ReleaseVStreams(vstreams, count);
}

// Transforms

Status hailo_create_input_transform_context_by_stream(InputStream stream, const TransformParams* params,
                                                      InputTransform* context) {
  return CreateTransform(stream, params, context);
}

Status hailo_create_output_transform_context_by_stream(OutputStream stream, const TransformParams* params,
                                                       OutputTransform* context) {
  return CreateTransform(stream, params, context);
}

Status hailo_transform_frame_by_input_transform_context(InputTransform context, const void* source, size_t source_bytes,
                                                        void* target, size_t target_bytes) {
  if (context == nullptr || source == nullptr || target == nullptr) return kInvalidArgument;
  if (source_bytes != context->UserBytes() || target_bytes != context->HardwareBytes()) return kInvalidArgument;
  context->Apply(source, target);
  return kSuccess;
}

Status hailo_transform_frame_by_output_transform_context(OutputTransform context, const void* source,
                                                         size_t source_bytes, void* target, size_t target_bytes) {
  if (context == nullptr || source == nullptr || target == nullptr) return kInvalidArgument;
  if (source_bytes != context->HardwareBytes() || target_bytes != context->UserBytes()) return kInvalidArgument;
  context->Apply(source, target);
  return kSuccess;
}

Status hailo_release_input_transform_context(InputTransform context) {
  if (context == nullptr) return kInvalidArgument;
  delete context;
  return kSuccess;
}

Status hailo_release_output_transform_context(OutputTransform context) {
  if (context == nullptr) return kInvalidArgument;
  delete context;
  return kSuccess;
}
