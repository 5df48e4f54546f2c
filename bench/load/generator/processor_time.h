// Who has used how much of the processors: this process, and the server.
#pragma once

#include <time.h>

namespace load {

/// Seconds; negative when they cannot be told.
struct ProcessorTime {
  double own, server, server_main_thread;
};

class ProcessorClock {
 public:
  /// @param server_pid 0: the server is not looked at
  explicit ProcessorClock(int server_pid);
  ProcessorTime Read() const;

 private:
  const int server_pid_;
  clockid_t server_clock_ = 0;
  bool has_server_ = false;
};

}  // namespace load
