#include "processor_time.h"

#include <fstream>
#include <string>

namespace load {
namespace {

double Seconds(clockid_t clock) {
  timespec time;
  return clock_gettime(clock, &time) == 0 ? static_cast<double>(time.tv_sec) + 1e-9 * static_cast<double>(time.tv_nsec)
                                          : -1;
}

/// The kernel gives other processes' threads no clock, but their time on a processor in nanoseconds.
double MainThreadSeconds(int pid) {
  const std::string id = std::to_string(pid);
  std::ifstream file("/proc/" + id + "/task/" + id + "/schedstat");
  double ns;
  return file >> ns ? ns * 1e-9 : -1;
}

}  // namespace

ProcessorClock::ProcessorClock(int server_pid) : server_pid_(server_pid) {
  has_server_ = server_pid > 0 && clock_getcpuclockid(server_pid, &server_clock_) == 0;
}

ProcessorTime ProcessorClock::Read() const {
  if (!has_server_) return {Seconds(CLOCK_PROCESS_CPUTIME_ID), -1, -1};
  return {Seconds(CLOCK_PROCESS_CPUTIME_ID), Seconds(server_clock_), MainThreadSeconds(server_pid_)};
}

}  // namespace load
