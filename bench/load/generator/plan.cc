#include "plan.h"

#include <stdexcept>

namespace load {
namespace {

std::string ReadBytes(std::istream& input, size_t count) {
  std::string bytes(count, '\0');
  input.read(bytes.data(), static_cast<std::streamsize>(count));
  return bytes;
}

Request ReadRequest(std::istream& input) {
  Request request;
  size_t bytes, expected_bytes;
  int mode;
  input >> request.window_count >> bytes >> mode >> request.expectation.offset >> expected_bytes;
  input.get();  // the end of the line
  request.expectation.mode = static_cast<Expectation::Mode>(mode);
  request.bytes = ReadBytes(input, bytes);
  request.expectation.bytes = ReadBytes(input, expected_bytes);
  return request;
}

std::string ReadBlob(std::istream& input) {
  size_t count = 0;
  input >> count;
  input.get();
  return ReadBytes(input, count);
}

Dialect ReadDialect(std::istream& input) {
  Dialect dialect;
  for (int* const value : {&dialect.type_offset, &dialect.result_type, &dialect.error_type, &dialect.credit_type,
                           &dialect.welcome_type, &dialect.sequence_offset, &dialect.credits_offset,
                           &dialect.count_offset, &dialect.status_offset, &dialect.retry_offset, &dialect.patch_offset})
    input >> *value;
  return dialect;
}

}  // namespace

Plan ReadPlan(std::istream& input) {
  Plan plan;
  for (std::string name; input >> name && name != "end";) {
    if (name == "path") plan.path = ReadBlob(input);
    else if (name == "port") input >> plan.port;
    else if (name == "connections") input >> plan.connections;
    else if (name == "in_flight") input >> plan.in_flight;
    else if (name == "rate_per_second") input >> plan.rate_per_second;
    else if (name == "poisson") input >> plan.is_poisson;
    else if (name == "gives_up") input >> plan.gives_up;
    else if (name == "seed") input >> plan.seed;
    else if (name == "warm_up_ms") input >> plan.warm_up_ms;
    else if (name == "duration_ms") input >> plan.duration_ms;
    else if (name == "grace_ms") input >> plan.grace_ms;
    else if (name == "server_pid") input >> plan.server_pid;
    else if (name == "heeds_retry_after") input >> plan.heeds_retry_after;
    else if (name == "refusal" || name == "too_late") {
      size_t status = 0;
      input >> status;
      (name == "refusal" ? plan.is_refusal : plan.is_too_late).at(status) = true;
    } else if (name == "websocket") {
      plan.is_websocket = true;
      plan.dialect = ReadDialect(input);
    } else if (name == "upgrade") plan.upgrade = ReadBlob(input);
    else if (name == "hello") plan.hello = ReadBlob(input);
    else if (name == "request") plan.requests.push_back(ReadRequest(input));
    else if (name == "next") input >> plan.order.emplace_back();
    else throw std::runtime_error("Cannot read plan: no such setting: " + name);
  }
  if (!input) throw std::runtime_error("Cannot read plan: it ends early");
  return plan;
}

}  // namespace load
