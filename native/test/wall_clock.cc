// Preloaded into a process, sets its wall clock: by as many seconds as the int64 in the file WALL_CLOCK_FILE says, at any
// time. The monotonic clocks are left alone, as they are by whoever sets the clock of a machine.
#include <dlfcn.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#include <cstdint>
#include <cstdlib>

namespace {

int64_t Offset() {
  static const volatile int64_t* const seconds = [] {
    const char* path = getenv("WALL_CLOCK_FILE");
    const int file = path == nullptr ? -1 : open(path, O_RDONLY | O_CLOEXEC);
    if (file < 0) abort();
    void* const mapped = mmap(nullptr, sizeof(int64_t), PROT_READ, MAP_SHARED, file, 0);
    close(file);
    if (mapped == MAP_FAILED) abort();
    return static_cast<const int64_t*>(mapped);
  }();
  return *seconds;
}

template <typename Function>
Function* Next(const char* name) {
  return reinterpret_cast<Function*>(dlsym(RTLD_NEXT, name));
}

}  // namespace

extern "C" {

__attribute__((visibility("default"))) int clock_gettime(clockid_t clock, timespec* now) noexcept {
  static auto* const next = Next<int(clockid_t, timespec*)>("clock_gettime");
  const int status = next(clock, now);
  if (status == 0 && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) now->tv_sec += Offset();
  return status;
}

__attribute__((visibility("default"))) int gettimeofday(timeval* now, void* zone) noexcept {
  static auto* const next = Next<int(timeval*, void*)>("gettimeofday");
  const int status = next(now, zone);
  if (status == 0) now->tv_sec += Offset();
  return status;
}

__attribute__((visibility("default"))) time_t time(time_t* now) noexcept {
  static auto* const next = Next<time_t(time_t*)>("time");
  const time_t moved = next(nullptr) + Offset();
  if (now != nullptr) *now = moved;
  return moved;
}
}
