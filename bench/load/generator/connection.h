// One socket to the server, and what goes over it. http.cc and websocket.cc say in which words.
#pragma once

#include <sys/uio.h>

#include <string>
#include <string_view>
#include <vector>

#include "plan.h"

namespace load {

class Generator;

/// A request on its way.
struct Issue {
  const Request* request;
  int64_t due_ns;
};

/// Opened again, and counted, when the server closes it.
class Connection {
 public:
  explicit Connection(Generator* generator) : generator_(*generator) {}
  virtual ~Connection();
  Connection(const Connection&) = delete;
  Connection& operator=(const Connection&) = delete;

  void Open();
  /// @param events of epoll
  void OnEvent(uint32_t events);
  /// When a pause has ended.
  void OnTimer();

  bool is_ready() const { return is_ready_; }
  /// Requests that may be sent now.
  size_t Room() const { return is_ready_ && !is_paused_ ? ProtocolRoom() : 0; }
  /// Only with room. Nothing is sent before Flush().
  virtual void Queue(const Issue& issue) = 0;
  void Flush();

  /// Since when there has been room, kept by the generator.
  static constexpr int64_t kBusy = -1;
  int64_t free_since_ns = kBusy;
  bool is_listed_as_free = false;

 protected:
  virtual size_t ProtocolRoom() const = 0;
  /// The socket is open.
  virtual void OnOpen() = 0;
  /// What came, as far as it was not taken yet. @returns how much of it was, kBroken when it makes no sense, kEnded
  /// when it says that the server closes
  virtual ssize_t OnBytes(std::string_view bytes) = 0;
  /// The socket is gone: nothing that was sent gets an answer any more.
  virtual void OnLost() = 0;

  static constexpr ssize_t kBroken = -1, kEnded = -2;

  void SetReady() { is_ready_ = true; }
  /// @param bytes stay where they are until they are sent
  void Append(const char* bytes, size_t count) {
    if (count > 0) unsent_.push_back({const_cast<char*>(bytes), count});
  }
  bool is_all_sent() const { return unsent_.empty(); }
  /// Sends nothing for a while.
  void Pause(int64_t duration_ns);

  Generator& generator_;

 private:
  void OnConnected();
  void Receive();
  void Lose();
  void Close();
  void Watch(uint32_t events);

  int socket_ = -1;
  bool is_connected_ = false, is_ready_ = false, is_paused_ = false;
  bool has_received_ = false;  // since it was opened
  uint32_t watched_ = 0;
  std::vector<iovec> unsent_;
  std::string partial_;  // received, not taken yet
};

}  // namespace load
