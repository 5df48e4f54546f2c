// HTTP/1.1, kept alive, one request at a time.
#pragma once

#include "connection.h"

namespace load {

class HttpConnection : public Connection {
 public:
  using Connection::Connection;
  void Queue(const Issue& issue) override;

 protected:
  size_t ProtocolRoom() const override { return is_in_flight_ || !is_all_sent() ? 0 : 1; }
  void OnOpen() override { SetReady(); }
  ssize_t OnBytes(std::string_view bytes) override;
  void OnLost() override;

 private:
  Issue issue_{};
  bool is_in_flight_ = false;
};

/// The head of an answer, as far as it matters here.
struct AnswerHead {
  uint32_t status = 0;
  size_t bytes = 0;           // of the head, its empty line included
  size_t content_length = 0;  // of the body behind it
  bool is_last = false;       // the server closes
  int64_t retry_after_s = 0;
};

enum class Parsed { kWhole, kIncomplete, kBroken };

/// @returns kBroken also for an answer whose length is not told: chunks are not read here
Parsed ParseHead(std::string_view bytes, AnswerHead* head);

}  // namespace load
