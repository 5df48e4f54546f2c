// One run: connects, sends what is due, waits for the answers, counts.
#pragma once

#include <netinet/in.h>
#include <sys/un.h>

#include <deque>
#include <memory>
#include <queue>
#include <vector>

#include "clock.h"
#include "connection.h"
#include "plan.h"
#include "processor_time.h"
#include "schedule.h"
#include "tally.h"

namespace load {

/// Where the server listens.
struct Address {
  explicit Address(const Plan& plan);
  sa_family_t family() const { return storage.ss_family; }
  const sockaddr* get() const { return reinterpret_cast<const sockaddr*>(&storage); }

  sockaddr_storage storage{};
  socklen_t bytes;
};

class Generator {
 public:
  explicit Generator(const Plan& plan);
  ~Generator();

  /// @throws std::runtime_error when the server cannot be reached
  const Tally& Run();

  // For connections.
  const Plan& plan() const { return plan_; }
  const Address& address() const { return address_; }
  /// For what one read brings.
  std::vector<char>& buffer() { return buffer_; }
  void Watch(int operation, int socket, uint32_t events, Connection* connection);
  /// Calls OnTimer().
  void Remind(Connection* connection, int64_t delay_ns);
  /// An issue has ended.
  void Settle(const Issue& issue, Outcome outcome, uint32_t status = 0, std::string_view body = {});
  void NoteConnectError(int error) { connect_error_ = error; }
  void CountLostConnection() { tally_.lost_connections++; }
  void CountBroken() { tally_.broken_answers++; }
  void CountSent(size_t bytes) { tally_.now.bytes_sent += bytes; }
  void CountReceived(size_t bytes) { tally_.now.bytes_received += bytes; }

 private:
  struct Timer {
    int64_t at_ns;
    Connection* connection;
    bool operator>(const Timer& other) const { return at_ns > other.at_ns; }
  };

  void Connect();
  void Work(int64_t until_ns);
  void SendDue();
  void Pump(Connection* connection, size_t limit);
  bool Take(int64_t free_since_ns, Issue* issue);
  void FireTimers();
  int64_t NextWakeNs(int64_t until_ns);
  void GiveUpUntil(int64_t free_since_ns);
  int64_t NextDueNs() const { return is_open_loop_ ? schedule_.due_ns() : now_ns_; }
  bool IsDue() const { return NextDueNs() <= now_ns_ && NextDueNs() < end_ns_; }
  bool IsMeasured(int64_t due_ns) const { return due_ns >= begin_ns_ && due_ns < end_ns_; }
  Progress ReadProgress() const;

  const Plan& plan_;
  const Address address_;
  const bool is_open_loop_;
  const ProcessorClock processor_clock_;
  Schedule schedule_;
  Tally tally_;
  std::vector<char> buffer_;
  const int epoll_;
  int connect_error_ = 0;

  int64_t now_ns_ = 0;
  int64_t begin_ns_ = 0, end_ns_ = 0;  // of what is measured; 0 until all are connected
  size_t in_flight_count_ = 0, next_in_order_ = 0;

  std::deque<Connection*> free_;  // with room, longest first; open loop only
  std::priority_queue<Timer, std::vector<Timer>, std::greater<Timer>> timers_;
  std::vector<std::unique_ptr<Connection>> connections_;
};

/// @param is_result whether the server says that it is one
Outcome OutcomeOf(bool is_result, const Plan& plan, uint32_t status, const Issue& issue, std::string_view body);

}  // namespace load
