// WebSocket: many windows in flight on one connection, answered in order.
#pragma once

#include <deque>

#include "connection.h"

namespace load {

class WebSocketConnection : public Connection {
 public:
  explicit WebSocketConnection(Generator* generator);
  void Queue(const Issue& issue) override;

 protected:
  size_t ProtocolRoom() const override;
  void OnOpen() override;
  ssize_t OnBytes(std::string_view bytes) override;
  void OnLost() override;

 private:
  /// A window on its way. Its slot is used again when it is answered, and so sent.
  struct Slot {
    Issue issue;
    std::string head;  // of its frame, up to the sequence and with it; the rest is sent from the request
  };

  ssize_t TakeUpgrade(std::string_view bytes);
  ssize_t TakeFrame(std::string_view bytes);
  bool OnMessage(std::string_view message);
  bool OnAnswer(std::string_view message, bool is_result);
  void AnswerPing(std::string_view payload);
  Slot& SlotOf(uint32_t sequence) { return slots_[sequence % slots_.size()]; }

  const Plan& plan_;
  const Dialect& dialect_;
  std::vector<Slot> slots_;
  bool is_upgraded_ = false;
  size_t credits_ = 0;
  // Sequences. What lies between is in flight.
  uint32_t oldest_ = 0, next_ = 0;
  std::deque<std::string> pongs_;  // whole frames, those that may not be sent yet
};

}  // namespace load
