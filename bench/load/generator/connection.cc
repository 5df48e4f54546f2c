#include "connection.h"

#include <limits.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "generator.h"

namespace load {
namespace {

/// Before a server that takes no connection, or ends it at once, is tried again.
constexpr int64_t kReopenDelayNs = 10 * kMillisecond;

}  // namespace

Connection::~Connection() { Close(); }

void Connection::Open() {
  const Address& address = generator_.address();
  socket_ = socket(address.family(), SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  const int on = 1;
  if (address.family() == AF_INET) setsockopt(socket_, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  if (socket_ < 0 || (connect(socket_, address.get(), address.bytes) != 0 && errno != EINPROGRESS)) {
    generator_.NoteConnectError(errno);
    return Lose();
  }
  watched_ = EPOLLOUT;
  generator_.Watch(EPOLL_CTL_ADD, socket_, watched_, this);
}

void Connection::OnEvent(uint32_t events) {
  if (!is_connected_) return OnConnected();
  if (events & EPOLLOUT) Flush();
  if (events & ~static_cast<uint32_t>(EPOLLOUT)) Receive();
}

void Connection::OnConnected() {
  int error = 0;
  socklen_t bytes = sizeof error;
  getsockopt(socket_, SOL_SOCKET, SO_ERROR, &error, &bytes);
  if (error != 0) {
    generator_.NoteConnectError(error);
    return Lose();
  }
  is_connected_ = true;
  Watch(EPOLLIN);
  OnOpen();
  Flush();
}

void Connection::OnTimer() {
  if (socket_ < 0) Open();
  else is_paused_ = false;
}

void Connection::Pause(int64_t duration_ns) {
  is_paused_ = true;
  generator_.Remind(this, duration_ns);
}

void Connection::Flush() {
  if (unsent_.empty()) return;
  auto first = unsent_.begin();
  while (first != unsent_.end()) {
    const auto count = std::min<ptrdiff_t>(unsent_.end() - first, IOV_MAX);
    msghdr message{};
    message.msg_iov = &*first;
    message.msg_iovlen = static_cast<size_t>(count);
    ssize_t sent = sendmsg(socket_, &message, MSG_NOSIGNAL);
    // Any other error shows again when the socket is read, behind what the server may have said first.
    if (sent < 0) break;
    generator_.CountSent(static_cast<size_t>(sent));
    for (; first != unsent_.end() && static_cast<size_t>(sent) >= first->iov_len; ++first)
      sent -= static_cast<ssize_t>(first->iov_len);
    if (sent > 0) {
      first->iov_base = static_cast<char*>(first->iov_base) + sent;
      first->iov_len -= static_cast<size_t>(sent);
    }
  }
  unsent_.erase(unsent_.begin(), first);
  Watch(unsent_.empty() ? EPOLLIN : EPOLLIN | EPOLLOUT);
}

void Connection::Receive() {
  std::vector<char>& buffer = generator_.buffer();
  const ssize_t received = recv(socket_, buffer.data(), buffer.size(), 0);
  if (received < 0 && (errno == EAGAIN || errno == EINTR)) return;
  if (received <= 0) return Lose();
  has_received_ = true;
  generator_.CountReceived(static_cast<size_t>(received));

  // What is whole is read where it lies: only what is cut off is kept.
  std::string_view bytes(buffer.data(), static_cast<size_t>(received));
  if (!partial_.empty()) bytes = partial_.append(bytes);
  const ssize_t taken = OnBytes(bytes);
  if (taken == kBroken) generator_.CountBroken();
  if (taken < 0) return Lose();
  if (partial_.empty()) partial_.assign(bytes.substr(static_cast<size_t>(taken)));
  else partial_.erase(0, static_cast<size_t>(taken));
}

void Connection::Lose() {
  if (is_connected_) generator_.CountLostConnection();
  const bool was_of_use = is_ready_ && has_received_;
  Close();
  is_connected_ = is_ready_ = has_received_ = false;
  unsent_.clear();
  partial_.clear();
  OnLost();
  if (was_of_use) Open();
  else generator_.Remind(this, kReopenDelayNs);
}

void Connection::Close() {
  if (socket_ >= 0) close(socket_);
  socket_ = -1;
}

void Connection::Watch(uint32_t events) {
  if (events == watched_) return;
  watched_ = events;
  generator_.Watch(EPOLL_CTL_MOD, socket_, events, this);
}

}  // namespace load
