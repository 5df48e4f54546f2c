#include "generator.h"

#include <sys/epoll.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <stdexcept>
#include <string>

#include "http.h"
#include "websocket.h"

namespace load {
namespace {

constexpr int64_t kConnectTimeoutNs = 5 * kSecond;
constexpr size_t kBufferBytes = 256 * 1024;
constexpr int kEvents = 256;

}  // namespace

Address::Address(const Plan& plan) {
  if (plan.path.empty()) {
    auto* const inet = reinterpret_cast<sockaddr_in*>(&storage);
    inet->sin_family = AF_INET;
    inet->sin_port = htons(plan.port);
    inet->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    bytes = sizeof *inet;
  } else {
    auto* const local = reinterpret_cast<sockaddr_un*>(&storage);
    if (plan.path.size() >= sizeof local->sun_path) throw std::runtime_error("Cannot connect: the path is too long");
    local->sun_family = AF_UNIX;
    std::memcpy(local->sun_path, plan.path.c_str(), plan.path.size() + 1);
    bytes = sizeof *local;
  }
}

Outcome OutcomeOf(bool is_result, const Plan& plan, uint32_t status, const Issue& issue, std::string_view body) {
  if (is_result) return issue.request->expectation.IsMet(body) ? kRight : kWrong;
  return plan.is_refusal[status] ? kRefused : plan.is_too_late[status] ? kLate : kFailed;
}

Generator::Generator(const Plan& plan)
    : plan_(plan),
      address_(plan),
      is_open_loop_(plan.rate_per_second > 0),
      processor_clock_(plan.server_pid),
      schedule_(is_open_loop_ ? plan.rate_per_second : 1, plan.is_poisson, plan.seed),
      buffer_(kBufferBytes),
      epoll_(epoll_create1(EPOLL_CLOEXEC)) {
  for (size_t i = 0; i < plan.connections; i++) {
    if (plan.is_websocket) connections_.push_back(std::make_unique<WebSocketConnection>(this));
    else connections_.push_back(std::make_unique<HttpConnection>(this));
  }
}

Generator::~Generator() { close(epoll_); }

const Tally& Generator::Run() {
  prctl(PR_SET_TIMERSLACK, 1);  // ns; the default of 50 us would be most of what is late
  Connect();
  now_ns_ = NowNs();
  begin_ns_ = now_ns_ + plan_.warm_up_ms * kMillisecond;
  end_ns_ = begin_ns_ + plan_.duration_ms * kMillisecond;
  schedule_.Start(now_ns_);
  for (const auto& connection : connections_) Pump(connection.get(), is_open_loop_ ? 0 : plan_.in_flight);

  Work(begin_ns_);
  tally_.begin = ReadProgress();
  Work(end_ns_);
  tally_.end = ReadProgress();

  Work(end_ns_ + plan_.grace_ms * kMillisecond);
  for (; is_open_loop_ && schedule_.due_ns() < end_ns_; schedule_.Advance()) {
    if (IsMeasured(schedule_.due_ns())) tally_.unsent_count++;
  }
  return tally_;
}

void Generator::Connect() {
  now_ns_ = NowNs();
  const int64_t deadline_ns = now_ns_ + kConnectTimeoutNs;
  for (const auto& connection : connections_) connection->Open();
  const auto ready_count = [this] {
    return std::count_if(connections_.begin(), connections_.end(), [](const auto& one) { return one->is_ready(); });
  };
  const auto is_nobody_there = [this] { return connect_error_ == ECONNREFUSED || connect_error_ == ENOENT; };
  while (now_ns_ < deadline_ns && !is_nobody_there()) {
    if (static_cast<size_t>(ready_count()) == connections_.size()) return;
    Work(std::min(deadline_ns, now_ns_ + kMillisecond));
  }
  throw std::runtime_error("Cannot connect: " + std::to_string(ready_count()) + " of " +
                           std::to_string(connections_.size()) + " connections are ready" +
                           (connect_error_ != 0 ? std::string(", ") + std::strerror(connect_error_) : " after 5 s"));
}

/// Until then, or until there is nothing left to wait for.
void Generator::Work(int64_t until_ns) {
  epoll_event events[kEvents];
  for (now_ns_ = NowNs(); now_ns_ < until_ns; now_ns_ = NowNs()) {
    if (end_ns_ != 0 && now_ns_ >= end_ns_ && in_flight_count_ == 0 && !IsDue()) return;
    FireTimers();
    SendDue();
    const int64_t wait_ns = std::max<int64_t>(NextWakeNs(until_ns) - NowNs(), 0);
    const timespec wait{wait_ns / kSecond, wait_ns % kSecond};
    const int count = epoll_pwait2(epoll_, events, kEvents, &wait, nullptr);
    if (count < 0 && errno != EINTR)
      throw std::runtime_error(std::string("Cannot wait: ") + std::strerror(errno) +
                               " (Linux 5.11 or later is needed)");
    for (int i = 0; i < count; i++) {
      auto* const connection = static_cast<Connection*>(events[i].data.ptr);
      now_ns_ = NowNs();
      connection->OnEvent(events[i].events);
      Pump(connection, plan_.in_flight);
    }
  }
}

/// What is due goes to the connections that have been free for longest, one each.
void Generator::SendDue() {
  // What becomes due while this is sent is sent after the answers that have come are read.
  const int64_t until_ns = now_ns_;
  for (; !free_.empty() && IsDue() && schedule_.due_ns() <= until_ns; now_ns_ = NowNs()) {
    Connection* const connection = free_.front();
    free_.pop_front();
    Pump(connection, 1);
    connection->is_listed_as_free = connection->Room() > 0;
    if (connection->is_listed_as_free) free_.push_back(connection);
  }
}

/// Sends what is due, as far as there is room.
void Generator::Pump(Connection* connection, size_t limit) {
  if (connection->free_since_ns == Connection::kBusy) connection->free_since_ns = now_ns_;
  Issue issue;
  while (limit-- > 0 && connection->Room() > 0 && Take(connection->free_since_ns, &issue)) connection->Queue(issue);
  connection->Flush();

  if (connection->Room() == 0) {
    connection->free_since_ns = Connection::kBusy;
  } else if (is_open_loop_ && !connection->is_listed_as_free) {
    connection->is_listed_as_free = true;
    free_.push_back(connection);
  }
}

/// The next request, if one is due. @param free_since_ns of the connection that asks
bool Generator::Take(int64_t free_since_ns, Issue* issue) {
  if (is_open_loop_ && plan_.gives_up)
    GiveUpUntil(free_.empty() ? free_since_ns : std::min(free_since_ns, free_.front()->free_since_ns));
  if (!IsDue()) return false;
  const int64_t due_ns = NextDueNs();
  if (is_open_loop_) {
    schedule_.Advance();
    if (IsMeasured(due_ns)) tally_.lag.Record(now_ns_ - std::max(due_ns, free_since_ns));
  }
  if (IsMeasured(due_ns)) tally_.due_count++;
  in_flight_count_++;
  *issue = {&plan_.requests[plan_.order[next_in_order_]], due_ns};
  if (++next_in_order_ == plan_.order.size()) next_in_order_ = 0;
  return true;
}

/// What was due before any connection was free.
void Generator::GiveUpUntil(int64_t free_since_ns) {
  for (; schedule_.due_ns() < std::min(free_since_ns, end_ns_); schedule_.Advance()) {
    if (IsMeasured(schedule_.due_ns())) tally_.unsent_count++;
  }
}

void Generator::Settle(const Issue& issue, Outcome outcome, uint32_t status, std::string_view body) {
  in_flight_count_--;
  tally_.now.outcomes[outcome]++;
  if (outcome == kRight) tally_.now.right_windows += issue.request->window_count;
  if ((outcome == kWrong || outcome == kFailed) && !tally_.first_wrong.is_there)
    tally_.first_wrong = {true, static_cast<size_t>(issue.request - plan_.requests.data()), status, std::string(body)};

  if (!IsMeasured(issue.due_ns)) return;
  tally_.outcomes[outcome]++;
  if (outcome == kLost) return;
  tally_.statuses[status]++;
  if (outcome == kRight || outcome == kWrong) tally_.answered.Record(now_ns_ - issue.due_ns);
  if (outcome == kRefused) tally_.refused.Record(now_ns_ - issue.due_ns);
  if (outcome == kLate) tally_.late.Record(now_ns_ - issue.due_ns);
}

void Generator::Watch(int operation, int socket, uint32_t events, Connection* connection) {
  epoll_event event{};
  event.events = events;
  event.data.ptr = connection;
  epoll_ctl(epoll_, operation, socket, &event);
}

void Generator::Remind(Connection* connection, int64_t delay_ns) { timers_.push({now_ns_ + delay_ns, connection}); }

void Generator::FireTimers() {
  while (!timers_.empty() && timers_.top().at_ns <= now_ns_) {
    Connection* const connection = timers_.top().connection;
    timers_.pop();
    connection->OnTimer();
    Pump(connection, plan_.in_flight);
  }
}

int64_t Generator::NextWakeNs(int64_t until_ns) {
  int64_t next_ns = until_ns;
  if (!timers_.empty()) next_ns = std::min(next_ns, timers_.top().at_ns);
  if (!free_.empty() && schedule_.due_ns() < end_ns_) next_ns = std::min(next_ns, schedule_.due_ns());
  return next_ns;
}

Progress Generator::ReadProgress() const {
  Progress progress = tally_.now;
  progress.at_ns = now_ns_;
  progress.time = processor_clock_.Read();
  return progress;
}

}  // namespace load
