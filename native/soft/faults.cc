#include "faults.h"

#include <atomic>
#include <cerrno>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <mutex>
#include <sstream>
#include <string>

namespace soft {
namespace {

using Clock = std::chrono::steady_clock;
constexpr auto kControlFilePeriod = std::chrono::milliseconds(10);

template <typename T>
bool ParseNumber(const std::string& text, T least, T most, T* number) {
  if (text.empty()) return false;
  errno = 0;
  char* end;
  const double value = std::strtod(text.c_str(), &end);
  if (errno != 0 || *end != '\0' || !std::isfinite(value) || value < static_cast<double>(least) ||
      value > static_cast<double>(most))
    return false;
  *number = static_cast<T>(value);
  return static_cast<double>(*number) == value || std::is_floating_point<T>::value;
}

bool ParseFault(const std::string& word, FaultSet* set) {
  const size_t equals = word.find('=');
  const std::string name = word.substr(0, equals);
  if (equals == std::string::npos) {
    bool* const flag = name == "stall"             ? &set->stall
                       : name == "drop"            ? &set->drop
                       : name == "abort"           ? &set->abort
                       : name == "unplug"          ? &set->unplug
                       : name == "busy"            ? &set->busy
                       : name == "firmware"        ? &set->firmware
                       : name == "control_timeout" ? &set->control_timeout
                       : name == "runtime_error"   ? &set->runtime_error
                       : name == "wrong"           ? &set->wrong
                       : name == "page_size"       ? &set->page_size
                       : name == "no_memory"       ? &set->no_memory
                                                   : nullptr;
    if (flag == nullptr) return false;
    return *flag = true;
  }
  const std::string value = word.substr(equals + 1);
  if (name == "temperature") return ParseNumber(value, -60.0F, 400.0F, &set->temperature_celsius);
  if (name == "slow_shutdown") return ParseNumber<uint32_t>(value, 0, 600'000, &set->slow_shutdown_ms);
  if (name == "after") return ParseNumber<uint64_t>(value, 0, uint64_t{1} << 52, &set->after);
  if (name == "fail_submit") {
    int32_t status;
    if (!ParseNumber<int32_t>(value, 1, 93, &status)) return false;
    set->fail_submit = static_cast<Status>(status);
    return true;
  }
  if (name == "driver") {
    Version& version = set->driver;
    char rest;
    return std::sscanf(value.c_str(), "%u.%u.%u%c", &version.major, &version.minor, &version.revision, &rest) == 3;
  }
  return false;
}

bool ParseFaults(const std::string& text, FaultSet* set) {
  std::istringstream words(text);
  for (std::string word; words >> word;) {
    if (!ParseFault(word, set)) return false;
  }
  return true;
}

std::atomic<uint64_t> frame_count{0};

/// The process's one set. Its marks are counted when a fault comes into force, not when it is set: `after` delays it.
class FaultBoard {
 public:
  static FaultBoard& Get() {
    // Never destroyed: device threads may outlive static destruction.
    static FaultBoard* const board = new FaultBoard;
    return *board;
  }

  Faults Current() {
    std::lock_guard<std::mutex> lock(mutex_);
    LookIntoControlFile();
    Enforce();
    return faults_;
  }

  bool Set(const std::string& text) {
    FaultSet set;
    if (!ParseFaults(text, &set)) return false;
    std::lock_guard<std::mutex> lock(mutex_);
    Replace(set);
    return true;
  }

 private:
  FaultBoard() {
    const char* const path = std::getenv("SOFTHAILORT_CONTROL_FILE");
    if (path != nullptr) control_path_ = path;
    const char* const text = EnvironmentOr("SOFTHAILORT_FAULT", "");
    FaultSet set;
    if (!ParseFaults(text, &set)) {
      std::fprintf(stderr, "softhailort: ignoring SOFTHAILORT_FAULT=%s: cannot be parsed\n", text);
      return;
    }
    Replace(set);
  }

  void Replace(const FaultSet& set) {
    ordered_ = set;
    frames_at_order_ = frame_count.load();
    is_in_force_ = false;
    // A repeated `abort` or `unplug` is a new event, so what was in force ends here.
    faults_.set = FaultSet{};
    faults_.version++;
    Enforce();
  }

  void Enforce() {
    if (is_in_force_ || frame_count.load() - frames_at_order_ < ordered_.after) return;
    is_in_force_ = true;
    faults_.set = ordered_;
    faults_.version++;
    if (ordered_.unplug) faults_.unplug_count++;
    if (ordered_.abort) faults_.abort_count++;
    if (ordered_.runtime_error) faults_.runtime_error_count++;
  }

  void LookIntoControlFile() {
    if (control_path_.empty()) return;
    const Clock::time_point now = Clock::now();
    if (now < next_look_) return;
    next_look_ = now + kControlFilePeriod;
    std::string content;
    std::ifstream file(control_path_);
    if (file) content.assign(std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>());
    if (content == control_content_) return;
    control_content_ = content;
    FaultSet set;
    if (ParseFaults(content, &set)) {
      Replace(set);
    } else {
      // Written by hand it ends with a line feed; the message need not.
      while (!content.empty() && content.back() == '\n') content.pop_back();
      std::fprintf(stderr, "softhailort: ignoring the control file's \"%s\": cannot be parsed\n", content.c_str());
    }
  }

  std::mutex mutex_;
  Faults faults_;
  FaultSet ordered_;
  uint64_t frames_at_order_ = 0;
  bool is_in_force_ = true;
  std::string control_path_, control_content_;
  Clock::time_point next_look_{};
};

}  // namespace

Faults CurrentFaults() { return FaultBoard::Get().Current(); }
bool SetFaults(const char* text) { return FaultBoard::Get().Set(text); }
void CountFrame() { frame_count.fetch_add(1); }
uint64_t FrameCount() { return frame_count.load(); }

}  // namespace soft
