// The binary interface of HailoRT 4.17.1 to 4.23, as far as this project uses it: our own names,
// sizes and offsets from observation. No header of HailoRT is included or copied. The software
// HailoRT exports this interface, the shim calls it.
//
// Every ABI_SIZE and ABI_OFFSET is held against a table of all supported releases by
// test/native-abi.test.ts; the strings are HailoRT's names for the same things.
#pragma once

#include <cstddef>
#include <cstdint>

namespace hailo_abi {

#define ABI_SIZE(theirs, type, bytes) static_assert(sizeof(type) == (bytes), theirs)
#define ABI_OFFSET(theirs, type, member, bytes) static_assert(offsetof(type, member) == (bytes), theirs)

// Enumerations are 4 bytes; the numbers were never changed from release to release.
enum Status : int32_t {
  kSuccess = 0,
  kInvalidArgument = 2,
  kOutOfHostMemory = 3,
  kTimeout = 4,
  kInsufficientBuffer = 5,
  kInvalidOperation = 6,
  kNotImplemented = 7,
  kInternalFailure = 8,
  kOpenFileFailure = 13,
  kFileOperationFailure = 14,
  kUnsupportedFirmware = 16,
  kFirmwareControlFailure = 18,
  kInvalidHef = 26,
  kDriverOperationFailed = 36,
  kNotFound = 61,
  kCommunicationClosed = 62,
  kStreamAbort = 63,
  kDriverNotInstalled = 64,
  kNotAvailable = 65,
  kNetworkGroupNotActivated = 69,
  kStreamNotActivated = 72,
  kDeviceInUse = 73,
  kOutOfPhysicalDevices = 74,
  kInvalidDeviceArchitecture = 75,
  kInvalidDriverVersion = 76,
  kRpcFailed = 77,
  kInvalidServiceVersion = 78,
  kNotSupported = 79,
  kOutOfHostCmaMemory = 81,
  kQueueIsFull = 82,
  kDriverInvalidResponse = 85,  // 85 and up since 4.20
  kDriverInvalidIoctl = 86,
  kDriverTimeout = 87,
  kDriverInterrupted = 88,
  kDriverWaitCanceled = 90,
  kHefFileCorrupted = 91,  // 91 and up since 4.21
  kHefNotSupported = 92,
  kHefNotCompatibleWithDevice = 93,
};

enum Architecture : int32_t {
  kHailo8A0 = 0,
  kHailo8 = 1,
  kHailo8L = 2,
  kHailo15H = 3,
  kHailo15L = 4,
  kHailo15M = 5,
  kHailo10H = 6,
};

enum Direction : int32_t { kHostToDevice = 0, kDeviceToHost = 1 };
enum FormatType : int32_t { kTypeAuto = 0, kTypeUint8 = 1, kTypeUint16 = 2, kTypeFloat32 = 3 };
enum FormatOrder : int32_t { kOrderAuto = 0, kOrderNhwc = 1, kOrderNhcw = 2, kOrderNc = 6 };
enum SchedulingAlgorithm : int32_t { kSchedulerNone = 0, kSchedulerRoundRobin = 1 };
enum StreamFlags : int32_t { kStreamFlagsNone = 0, kStreamFlagsAsync = 1 };
enum NotificationId : int32_t {
  kTemperatureAlarm = 1,
  kDataflowShutdown = 2,
  kOvercurrentAlarm = 3,
  kCpuEccFatal = 7,
  kClockChanged = 10,
  kContextSwitchRunTimeError = 12,
};
enum TemperatureZone : uint32_t { kZoneGreen = 0, kZoneOrange = 1, kZoneRed = 2 };

constexpr size_t kNameBytes = 128;
constexpr size_t kNetworkNameBytes = 257;
constexpr char kUniqueGroup[] = "UNIQUE";

struct Version {
  uint32_t major, minor, revision;
};
ABI_SIZE("hailo_version_t", Version, 12);

struct DeviceId {
  char id[32];
};
ABI_SIZE("hailo_device_id_t", DeviceId, 32);

struct VDeviceParams {
  uint32_t device_count;
  DeviceId* device_ids;  // null: any
  int32_t scheduling_algorithm;
  const char* group_id;  // "UNIQUE" is shared with nobody; null is the group "", which is shared
  bool multi_process_service;
};
ABI_SIZE("hailo_vdevice_params_t", VDeviceParams, 40);
ABI_OFFSET("hailo_vdevice_params_t.device_count", VDeviceParams, device_count, 0);
ABI_OFFSET("hailo_vdevice_params_t.device_ids", VDeviceParams, device_ids, 8);
ABI_OFFSET("hailo_vdevice_params_t.scheduling_algorithm", VDeviceParams, scheduling_algorithm, 16);
ABI_OFFSET("hailo_vdevice_params_t.group_id", VDeviceParams, group_id, 24);
ABI_OFFSET("hailo_vdevice_params_t.multi_process_service", VDeviceParams, multi_process_service, 32);

struct DeviceIdentity {
  uint32_t protocol_version;
  Version firmware_version;
  uint32_t logger_version;
  uint8_t board_name_length;
  char board_name[32];
  bool is_release;
  bool extended_context_switch_buffer;
  int32_t architecture;
  uint8_t serial_number_length;
  char serial_number[16];
  uint8_t part_number_length;
  char part_number[16];
  uint8_t product_name_length;
  char product_name[42];
};
ABI_SIZE("hailo_device_identity_t", DeviceIdentity, 140);
ABI_OFFSET("hailo_device_identity_t.fw_version", DeviceIdentity, firmware_version, 4);
ABI_OFFSET("hailo_device_identity_t.logger_version", DeviceIdentity, logger_version, 16);
ABI_OFFSET("hailo_device_identity_t.board_name_length", DeviceIdentity, board_name_length, 20);
ABI_OFFSET("hailo_device_identity_t.board_name", DeviceIdentity, board_name, 21);
ABI_OFFSET("hailo_device_identity_t.is_release", DeviceIdentity, is_release, 53);
ABI_OFFSET("hailo_device_identity_t.device_architecture", DeviceIdentity, architecture, 56);
ABI_OFFSET("hailo_device_identity_t.serial_number_length", DeviceIdentity, serial_number_length, 60);
ABI_OFFSET("hailo_device_identity_t.serial_number", DeviceIdentity, serial_number, 61);
ABI_OFFSET("hailo_device_identity_t.part_number_length", DeviceIdentity, part_number_length, 77);
ABI_OFFSET("hailo_device_identity_t.part_number", DeviceIdentity, part_number, 78);
ABI_OFFSET("hailo_device_identity_t.product_name_length", DeviceIdentity, product_name_length, 94);
ABI_OFFSET("hailo_device_identity_t.product_name", DeviceIdentity, product_name, 95);

// 92 bytes before 4.21, 96 from then on: callers give more room than either needs.
struct ExtendedDeviceInformation {
  uint32_t neural_network_core_clock_hz;
  uint64_t supported_features_packed;
  int32_t boot_source;
  uint8_t soc_id[32];
  uint8_t rest[80];
} __attribute__((packed));
ABI_OFFSET("hailo_extended_device_information_t.supported_features", ExtendedDeviceInformation,
           supported_features_packed, 4);
ABI_OFFSET("hailo_extended_device_information_t.boot_source", ExtendedDeviceInformation, boot_source, 12);
ABI_OFFSET("hailo_extended_device_information_t.soc_id", ExtendedDeviceInformation, soc_id, 16);
static_assert(sizeof(ExtendedDeviceInformation) == 128, "room for every release");
constexpr size_t kExtendedInformationBytesBefore421 = 92;
constexpr size_t kExtendedInformationBytes = 96;

struct ChipTemperature {
  float sensor0_celsius, sensor1_celsius;
  uint16_t sample_count;
};
ABI_SIZE("hailo_chip_temperature_info_t", ChipTemperature, 12);

struct TemperatureAlarm {
  uint32_t zone;
  uint32_t sensor;
  float sensor0_celsius, sensor1_celsius;
};
ABI_SIZE("hailo_health_monitor_temperature_alarm_notification_message_t", TemperatureAlarm, 16);

struct ClockChange {
  uint32_t previous_hz, current_hz;
};

struct Notification {
  int32_t id;
  uint32_t sequence;
  union {
    TemperatureAlarm temperature_alarm;
    ClockChange clock_change;
    uint8_t bytes[20];
  } body;
};
ABI_SIZE("hailo_notification_t", Notification, 28);
ABI_OFFSET("hailo_notification_t.sequence", Notification, sequence, 4);
ABI_OFFSET("hailo_notification_t.body", Notification, body, 8);

struct Format {
  int32_t type, order, flags;
};
ABI_SIZE("hailo_format_t", Format, 12);

struct QuantInfo {
  float zero_point, scale, limit_min, limit_max;
};
ABI_SIZE("hailo_quant_info_t", QuantInfo, 16);

struct Shape {
  uint32_t height, width, features;
};
ABI_SIZE("hailo_3d_image_shape_t", Shape, 12);

// The two layouts differ in one union, which grew when nms_shape went from 12 to 16 bytes in 4.20.
template <size_t kNmsShapeBytes>
struct VStreamInfoOf {
  char name[kNameBytes];
  char network_name[kNetworkNameBytes];
  int32_t direction;
  Format format;
  union {
    Shape shape;
    uint32_t nms_shape[kNmsShapeBytes / 4];
  };
  QuantInfo quant_info;
};
using VStreamInfoBefore420 = VStreamInfoOf<12>;
using VStreamInfo = VStreamInfoOf<16>;
ABI_SIZE("hailo_vstream_info_t", VStreamInfo, 436);
ABI_OFFSET("hailo_vstream_info_t.network_name", VStreamInfo, network_name, 128);
ABI_OFFSET("hailo_vstream_info_t.direction", VStreamInfo, direction, 388);
ABI_OFFSET("hailo_vstream_info_t.format", VStreamInfo, format, 392);
ABI_OFFSET("hailo_vstream_info_t.shape", VStreamInfo, shape, 404);
ABI_OFFSET("hailo_vstream_info_t.quant_info", VStreamInfo, quant_info, 420);
ABI_SIZE("hailo_vstream_info_t before 4.20", VStreamInfoBefore420, 432);
ABI_OFFSET("hailo_vstream_info_t.quant_info before 4.20", VStreamInfoBefore420, quant_info, 416);

template <size_t kNmsInfoBytes>
struct StreamInfoOf {
  union {
    struct {
      Shape shape, hardware_shape;
    };
    uint8_t nms_info[kNmsInfoBytes];
  };
  uint32_t hardware_data_bytes;
  uint32_t hardware_frame_bytes;
  Format format;
  int32_t direction;
  uint8_t index;
  char name[kNameBytes];
  QuantInfo quant_info;
  bool is_mux;
};
using StreamInfoBefore420 = StreamInfoOf<160>;
using StreamInfo = StreamInfoOf<164>;
ABI_SIZE("hailo_stream_info_t", StreamInfo, 340);
ABI_OFFSET("hailo_stream_info_t.shape", StreamInfo, shape, 0);
ABI_OFFSET("hailo_stream_info_t.hw_shape", StreamInfo, hardware_shape, 12);
ABI_OFFSET("hailo_stream_info_t.hw_data_bytes", StreamInfo, hardware_data_bytes, 164);
ABI_OFFSET("hailo_stream_info_t.hw_frame_size", StreamInfo, hardware_frame_bytes, 168);
ABI_OFFSET("hailo_stream_info_t.format", StreamInfo, format, 172);
ABI_OFFSET("hailo_stream_info_t.direction", StreamInfo, direction, 184);
ABI_OFFSET("hailo_stream_info_t.index", StreamInfo, index, 188);
ABI_OFFSET("hailo_stream_info_t.name", StreamInfo, name, 189);
ABI_OFFSET("hailo_stream_info_t.quant_info", StreamInfo, quant_info, 320);
ABI_OFFSET("hailo_stream_info_t.is_mux", StreamInfo, is_mux, 336);
ABI_SIZE("hailo_stream_info_t before 4.20", StreamInfoBefore420, 336);
ABI_OFFSET("hailo_stream_info_t.hw_data_bytes before 4.20", StreamInfoBefore420, hardware_data_bytes, 160);
ABI_OFFSET("hailo_stream_info_t.hw_frame_size before 4.20", StreamInfoBefore420, hardware_frame_bytes, 164);
ABI_OFFSET("hailo_stream_info_t.format before 4.20", StreamInfoBefore420, format, 168);
ABI_OFFSET("hailo_stream_info_t.direction before 4.20", StreamInfoBefore420, direction, 180);
ABI_OFFSET("hailo_stream_info_t.index before 4.20", StreamInfoBefore420, index, 184);
ABI_OFFSET("hailo_stream_info_t.name before 4.20", StreamInfoBefore420, name, 185);
ABI_OFFSET("hailo_stream_info_t.quant_info before 4.20", StreamInfoBefore420, quant_info, 316);
ABI_OFFSET("hailo_stream_info_t.is_mux before 4.20", StreamInfoBefore420, is_mux, 332);

struct NetworkGroupInfo {
  char name[kNameBytes];
  bool is_multi_context;
};
ABI_SIZE("hailo_network_group_info_t", NetworkGroupInfo, 129);

struct StreamParameters {
  int32_t interface, direction, flags;
  uint8_t interface_parameters[68];
};
ABI_SIZE("hailo_stream_parameters_t", StreamParameters, 80);
ABI_OFFSET("hailo_stream_parameters_t.flags", StreamParameters, flags, 8);

struct StreamParametersByName {
  char name[kNameBytes];
  StreamParameters stream_params;
};
ABI_SIZE("hailo_stream_parameters_by_name_t", StreamParametersByName, 208);
ABI_OFFSET("hailo_stream_parameters_by_name_t.stream_params", StreamParametersByName, stream_params, 128);

struct NetworkParametersByName {
  char name[kNetworkNameBytes];
  uint16_t batch_size;
};
ABI_SIZE("hailo_network_parameters_by_name_t", NetworkParametersByName, 260);

struct ConfigureNetworkGroupParams {
  char name[kNameBytes];
  uint16_t batch_size;
  int32_t power_mode;
  int32_t latency;  // 1: measure
  size_t stream_count;
  StreamParametersByName streams[40];
  size_t network_count;
  NetworkParametersByName networks[8];
};
ABI_SIZE("hailo_configure_network_group_params_t", ConfigureNetworkGroupParams, 10560);
ABI_OFFSET("hailo_configure_network_group_params_t.batch_size", ConfigureNetworkGroupParams, batch_size, 128);
ABI_OFFSET("hailo_configure_network_group_params_t.power_mode", ConfigureNetworkGroupParams, power_mode, 132);
ABI_OFFSET("hailo_configure_network_group_params_t.latency", ConfigureNetworkGroupParams, latency, 136);
ABI_OFFSET("hailo_configure_network_group_params_t.stream_params_by_name_count", ConfigureNetworkGroupParams,
           stream_count, 144);
ABI_OFFSET("hailo_configure_network_group_params_t.stream_params_by_name", ConfigureNetworkGroupParams, streams, 152);
ABI_OFFSET("hailo_configure_network_group_params_t.network_params_by_name_count", ConfigureNetworkGroupParams,
           network_count, 8472);
ABI_OFFSET("hailo_configure_network_group_params_t.network_params_by_name", ConfigureNetworkGroupParams, networks,
           8480);

struct ConfigureParams {
  size_t count;
  ConfigureNetworkGroupParams groups[8];
};
ABI_SIZE("hailo_configure_params_t", ConfigureParams, 84488);
ABI_OFFSET("hailo_configure_params_t.network_group_params", ConfigureParams, groups, 8);

struct VStreamParams {
  Format format;
  uint32_t timeout_ms;
  uint32_t queue_size;
  int32_t vstream_stats_flags, pipeline_stats_flags;
};
ABI_SIZE("hailo_vstream_params_t", VStreamParams, 28);
ABI_OFFSET("hailo_vstream_params_t.timeout_ms", VStreamParams, timeout_ms, 12);
ABI_OFFSET("hailo_vstream_params_t.queue_size", VStreamParams, queue_size, 16);
ABI_OFFSET("hailo_vstream_params_t.vstream_stats_flags", VStreamParams, vstream_stats_flags, 20);

struct VStreamParamsByName {
  char name[kNameBytes];
  VStreamParams params;
};
ABI_SIZE("hailo_input_vstream_params_by_name_t", VStreamParamsByName, 156);
ABI_OFFSET("hailo_input_vstream_params_by_name_t.params", VStreamParamsByName, params, 128);

struct TransformParams {
  int32_t mode;  // 0: copy
  Format user_format;
};
ABI_SIZE("hailo_transform_params_t", TransformParams, 16);

struct CompletionInfo {
  Status status;
  const void* buffer;
  size_t buffer_bytes;
  void* opaque;
};
ABI_SIZE("hailo_stream_write_async_completion_info_t", CompletionInfo, 32);
ABI_SIZE("hailo_stream_read_async_completion_info_t", CompletionInfo, 32);
ABI_OFFSET("hailo_stream_read_async_completion_info_t.buffer_addr", CompletionInfo, buffer, 8);
ABI_OFFSET("hailo_stream_read_async_completion_info_t.buffer_size", CompletionInfo, buffer_bytes, 16);
ABI_OFFSET("hailo_stream_read_async_completion_info_t.opaque", CompletionInfo, opaque, 24);

// Handles. Each is a pointer to something that only the library knows.
using Device = struct DeviceOpaque*;
using VDevice = struct VDeviceOpaque*;
using Hef = struct HefOpaque*;
using NetworkGroup = struct NetworkGroupOpaque*;
using ActivatedNetworkGroup = struct ActivatedNetworkGroupOpaque*;
using InputStream = struct InputStreamOpaque*;
using OutputStream = struct OutputStreamOpaque*;
using InputVStream = struct InputVStreamOpaque*;
using OutputVStream = struct OutputVStreamOpaque*;
using InputTransform = struct InputTransformOpaque*;
using OutputTransform = struct OutputTransformOpaque*;

using CompletionCallback = void (*)(const CompletionInfo* info);
using NotificationCallback = void (*)(Device device, const Notification* notification, void* opaque);

// Functions, F(name without "hailo_", result, parameters). Counts passed by pointer go in as room and
// come out as number. StreamInfo and VStreamInfo are passed as void*: their size is the library's, see
// above.

// What the shim cannot do without.
#define HAILORT_REQUIRED_FUNCTIONS(F)                                                                          \
  F(get_library_version, Status, (Version * version))                                                          \
  F(get_status_message, const char*, (int32_t status))                                                         \
  F(scan_devices, Status, (void* null_params, DeviceId* ids, size_t* count))                                   \
  F(create_device_by_id, Status, (const DeviceId* id, Device* device))                                         \
  F(release_device, Status, (Device device))                                                                   \
  F(identify, Status, (Device device, DeviceIdentity * identity))                                              \
  F(get_device_id, Status, (Device device, DeviceId * id))                                                     \
  F(get_chip_temperature, Status, (Device device, ChipTemperature * temperature))                              \
  F(set_notification_callback, Status,                                                                         \
    (Device device, NotificationCallback callback, int32_t notification_id, void* opaque))                     \
  F(remove_notification_callback, Status, (Device device, int32_t notification_id))                            \
  F(init_vdevice_params, Status, (VDeviceParams * params))                                                     \
  F(create_vdevice, Status, (const VDeviceParams* params, VDevice* vdevice))                                   \
  F(release_vdevice, Status, (VDevice vdevice))                                                                \
  F(get_physical_devices, Status, (VDevice vdevice, Device * devices, size_t * count))                         \
  F(create_hef_buffer, Status, (Hef * hef, const void* buffer, size_t bytes))                                  \
  F(release_hef, Status, (Hef hef))                                                                            \
  F(init_configure_params_by_vdevice, Status, (Hef hef, VDevice vdevice, ConfigureParams * params))            \
  F(configure_vdevice, Status,                                                                                 \
    (VDevice vdevice, Hef hef, ConfigureParams * params, NetworkGroup * groups, size_t * count))               \
  F(shutdown_network_group, Status, (NetworkGroup group))                                                      \
  F(activate_network_group, Status, (NetworkGroup group, void* null_params, ActivatedNetworkGroup* activated)) \
  F(deactivate_network_group, Status, (ActivatedNetworkGroup activated))                                       \
  F(get_input_stream, Status, (NetworkGroup group, const char* name, InputStream* stream))                     \
  F(get_output_stream, Status, (NetworkGroup group, const char* name, OutputStream* stream))                   \
  F(get_input_stream_frame_size, size_t, (InputStream stream))                                                 \
  F(get_output_stream_frame_size, size_t, (OutputStream stream))                                               \
  F(get_input_stream_info, Status, (InputStream stream, void* info))                                           \
  F(get_output_stream_info, Status, (OutputStream stream, void* info))                                         \
  F(get_input_stream_quant_infos, Status, (InputStream stream, QuantInfo * infos, size_t * count))             \
  F(get_output_stream_quant_infos, Status, (OutputStream stream, QuantInfo * infos, size_t * count))           \
  F(input_stream_get_async_max_queue_size, Status, (InputStream stream, size_t * frames))                      \
  F(output_stream_get_async_max_queue_size, Status, (OutputStream stream, size_t * frames))                    \
  F(stream_write_raw_buffer_async, Status,                                                                     \
    (InputStream stream, const void* buffer, size_t bytes, CompletionCallback callback, void* opaque))         \
  F(stream_read_raw_buffer_async, Status,                                                                      \
    (OutputStream stream, void* buffer, size_t bytes, CompletionCallback callback, void* opaque))              \
  F(vdevice_dma_map_buffer, Status, (VDevice vdevice, void* address, size_t bytes, int32_t direction))         \
  F(vdevice_dma_unmap_buffer, Status, (VDevice vdevice, void* address, size_t bytes, int32_t direction))       \
  F(create_input_transform_context_by_stream, Status,                                                          \
    (InputStream stream, const TransformParams* params, InputTransform* context))                              \
  F(transform_frame_by_input_transform_context, Status,                                                        \
    (InputTransform context, const void* source, size_t source_bytes, void* target, size_t target_bytes))      \
  F(release_input_transform_context, Status, (InputTransform context))

// What only some of it needs: a clock to tell throttling by, vstreams.
#define HAILORT_OPTIONAL_FUNCTIONS(F)                                                                   \
  F(get_extended_device_information, Status, (Device device, ExtendedDeviceInformation * information))  \
  F(make_input_vstream_params, Status,                                                                  \
    (NetworkGroup group, bool unused, int32_t format_type, VStreamParamsByName* params, size_t* count)) \
  F(make_output_vstream_params, Status,                                                                 \
    (NetworkGroup group, bool unused, int32_t format_type, VStreamParamsByName* params, size_t* count)) \
  F(create_input_vstreams, Status,                                                                      \
    (NetworkGroup group, const VStreamParamsByName* params, size_t count, InputVStream* vstreams))      \
  F(create_output_vstreams, Status,                                                                     \
    (NetworkGroup group, const VStreamParamsByName* params, size_t count, OutputVStream* vstreams))     \
  F(get_input_vstream_frame_size, Status, (InputVStream vstream, size_t * bytes))                       \
  F(get_output_vstream_frame_size, Status, (OutputVStream vstream, size_t * bytes))                     \
  F(vstream_write_raw_buffer, Status, (InputVStream vstream, const void* buffer, size_t bytes))         \
  F(vstream_read_raw_buffer, Status, (OutputVStream vstream, void* buffer, size_t bytes))               \
  F(release_input_vstreams, Status, (const InputVStream* vstreams, size_t count))                       \
  F(release_output_vstreams, Status, (const OutputVStream* vstreams, size_t count))

// What programs for HailoRT need besides, and the software HailoRT therefore has.
#define HAILORT_OTHER_FUNCTIONS(F)                                                                          \
  F(get_throttling_state, Status, (Device device, bool* is_protection_enabled))                             \
  F(vdevice_get_physical_devices_ids, Status, (VDevice vdevice, DeviceId * ids, size_t * count))            \
  F(create_hef_file, Status, (Hef * hef, const char* path))                                                 \
  F(get_network_groups_infos, Status, (Hef hef, NetworkGroupInfo * infos, size_t * count))                  \
  F(hef_get_all_vstream_infos, Status, (Hef hef, const char* name, void* infos, size_t* count))             \
  F(hef_get_all_stream_infos, Status, (Hef hef, const char* name, void* infos, size_t room, size_t* count)) \
  F(hef_get_bottleneck_fps, Status, (Hef hef, const char* name, double* frames_per_second))                 \
  F(set_scheduler_timeout, Status, (NetworkGroup group, uint32_t timeout_ms, const char* network))          \
  F(set_scheduler_threshold, Status, (NetworkGroup group, uint32_t threshold, const char* network))         \
  F(set_scheduler_priority, Status, (NetworkGroup group, uint8_t priority, const char* network))            \
  F(stream_wait_for_async_input_ready, Status, (InputStream stream, size_t bytes, uint32_t timeout_ms))     \
  F(stream_wait_for_async_output_ready, Status, (OutputStream stream, size_t bytes, uint32_t timeout_ms))   \
  F(get_input_vstream_info, Status, (InputVStream vstream, void* info))                                     \
  F(get_input_vstream_quant_infos, Status, (InputVStream vstream, QuantInfo * infos, size_t * count))       \
  F(get_output_vstream_info, Status, (OutputVStream vstream, void* info))                                   \
  F(get_output_vstream_quant_infos, Status, (OutputVStream vstream, QuantInfo * infos, size_t * count))     \
  F(create_output_transform_context_by_stream, Status,                                                      \
    (OutputStream stream, const TransformParams* params, OutputTransform* context))                         \
  F(transform_frame_by_output_transform_context, Status,                                                    \
    (OutputTransform context, const void* source, size_t source_bytes, void* target, size_t target_bytes))  \
  F(release_output_transform_context, Status, (OutputTransform context))

#define HAILORT_FUNCTIONS(F)    \
  HAILORT_REQUIRED_FUNCTIONS(F) \
  HAILORT_OPTIONAL_FUNCTIONS(F) \
  HAILORT_OTHER_FUNCTIONS(F)

/// Every function that the shim calls, by its name without "hailo_". The optional ones may be null.
struct Functions {
#define DECLARE(name, result, parameters) result(*name) parameters;
  HAILORT_REQUIRED_FUNCTIONS(DECLARE)
  HAILORT_OPTIONAL_FUNCTIONS(DECLARE)
#undef DECLARE
};

}  // namespace hailo_abi
