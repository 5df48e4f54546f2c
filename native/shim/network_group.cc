#include "network_group.h"

#include <unistd.h>

#include <functional>
#include <string_view>
#include <vector>

namespace shim {
namespace {

using hailo_abi::Status;

/// Less is no HEF of any version, and HailoRT 4.23 crashes on a buffer of 0 bytes.
constexpr size_t kSmallestHefBytes = 28;

class HefHandle {
 public:
  HefHandle(const Library& library, const HefBytes& bytes) : library_(library) {
    if (bytes.size < kSmallestHefBytes) {
      throw Failure(Cause::kHefRefused, "Cannot load the HEF: it has " + std::to_string(bytes.size) + " bytes");
    }
    library.Check(library.call.create_hef_buffer(&hef, bytes.data, bytes.size), "load the HEF");
  }
  ~HefHandle() { library_.call.release_hef(hef); }
  HefHandle(const HefHandle&) = delete;

  hailo_abi::Hef hef = nullptr;

 private:
  const Library& library_;
};

size_t HashOf(const HefBytes& bytes) {
  return std::hash<std::string_view>()({static_cast<const char*>(bytes.data), bytes.size});
}

std::string HintFor(Status status) {
  switch (status) {
    case hailo_abi::kInternalFailure:
      return ". On kernels with 16 KiB pages (Raspberry Pi 5), put `options hailo_pci force_desc_page_size=4096` "
             "into /etc/modprobe.d/hailo_pci.conf and reboot; here a page has " +
             std::to_string(sysconf(_SC_PAGESIZE)) + " bytes";
    case hailo_abi::kOutOfHostCmaMemory:
      return ". The kernel has no contiguous memory left: free some, or boot with a larger cma=";
    default:
      return "";
  }
}

}  // namespace

std::shared_ptr<NetworkGroup> NetworkGroup::Configure(const std::shared_ptr<VDevice>& vdevice, const HefBytes& hef) {
  const std::lock_guard<std::mutex> lock(vdevice->configure_mutex);
  if (!vdevice->options.is_single_model) {
    return std::shared_ptr<NetworkGroup>(new NetworkGroup(vdevice, hef, /*is_shared=*/false));
  }
  std::shared_ptr<NetworkGroup> group = vdevice->single_group.lock();
  if (group == nullptr || group->is_shut_down_) {
    group = std::shared_ptr<NetworkGroup>(new NetworkGroup(vdevice, hef, /*is_shared=*/true));
    vdevice->single_group = group;
  } else if (group->hef_hash_ != HashOf(hef)) {
    throw Failure(Cause::kOpenFailed,
                  "Cannot configure the HEF beside the one that serves: that takes HAILO_SCHEDULER=round_robin");
  }
  return group;
}

NetworkGroup::NetworkGroup(const std::shared_ptr<VDevice>& vdevice, const HefBytes& hef, bool is_shared)
    : vdevice(vdevice), is_shared_(is_shared), hef_hash_(HashOf(hef)) {
  vdevice_handle_ = vdevice->CreateHandle();
  try {
    ConfigureHef(hef);
  } catch (...) {
    vdevice->ReleaseHandle(vdevice_handle_);
    throw;
  }
  vdevice->group_count++;
}

void NetworkGroup::ConfigureHef(const HefBytes& bytes) {
  const Library& library = vdevice->library;
  const HefHandle hef(library, bytes);
  // On the heap: 84 KiB, more in releases to come.
  std::vector<uint8_t> room(sizeof(hailo_abi::ConfigureParams) + 12 * 1024);
  auto* params = reinterpret_cast<hailo_abi::ConfigureParams*>(room.data());
  library.Check(library.call.init_configure_params_by_vdevice(hef.hef, vdevice_handle_, params),
                "prepare the HEF's configuration");
  if (params->count != 1) {
    throw Failure(Cause::kHefRefused,
                  "Cannot use the HEF: it has " + std::to_string(params->count) + " network groups, expected 1");
  }
  if (vdevice->options.is_single_model) {
    hailo_abi::ConfigureNetworkGroupParams& group = params->groups[0];
    for (size_t stream = 0; stream < group.stream_count; stream++) {
      group.streams[stream].stream_params.flags = hailo_abi::kStreamFlagsAsync;
    }
  }
  size_t count = 1;
  const Status status = library.call.configure_vdevice(vdevice_handle_, hef.hef, params, &group_, &count);
  if (status == hailo_abi::kInvalidOperation) {
    // A vdevice holds at most 32 models and gives none back before it is released.
    if (vdevice->group_count > 0) {
      throw Failure(Cause::kOpenFailed,
                    "Cannot configure the HEF beside the one that serves: the device has held 32 different ones since it "
                    "was opened, and can hold no further one before the service is started again");
    }
    vdevice->Retire(Cause::kOpenFailed, "The device can hold no further model");
  }
  if (const std::string hint = HintFor(status); !hint.empty()) {
    throw Failure(CauseOf(status), "Cannot configure the HEF: " + library.Describe(status) + hint);
  }
  library.Check(status, "configure the HEF");
  if (vdevice->options.is_single_model) {
    library.Check(library.call.activate_network_group(group_, nullptr, &activated_), "activate the network group");
  }
}

NetworkGroup::~NetworkGroup() {
  vdevice->group_count--;
  ShutDown();
  if (activated_ != nullptr) vdevice->library.call.deactivate_network_group(activated_);
  vdevice->ReleaseHandle(vdevice_handle_);
}

void NetworkGroup::ShutDown() {
  const std::lock_guard<std::mutex> lock(shutdown_mutex_);
  if (is_shut_down_.exchange(true)) return;
  vdevice->library.call.shutdown_network_group(group_);
}

void NetworkGroup::SetDepth(size_t depth) {
  const std::lock_guard<std::mutex> lock(credit_mutex_);
  depth_ = depth;
}

bool NetworkGroup::TakeCredit(std::chrono::milliseconds timeout) {
  std::unique_lock<std::mutex> lock(credit_mutex_);
  if (!credit_given_.wait_for(lock, timeout, [this] { return in_flight_ < depth_; })) return false;
  in_flight_++;
  return true;
}

void NetworkGroup::GiveCredit() {
  const std::lock_guard<std::mutex> lock(credit_mutex_);
  in_flight_--;
  credit_given_.notify_one();
}

}  // namespace shim
