// What JavaScript sees: names and argument checks. The plain C interface of Node.js, as a call takes a fraction of a
// microsecond and happens twice per window.
#include <node_api.h>

#include <array>
#include <cstdint>
#include <iterator>
#include <memory>
#include <string_view>

#include "numbers.h"
#include "window.h"

namespace {

constexpr size_t kLongestKey = 31;

template <size_t kCount>
bool Arguments(napi_env env, napi_callback_info info, std::array<napi_value, kCount>* arguments) {
  size_t count = kCount;
  return napi_get_cb_info(env, info, &count, arguments->data(), nullptr, nullptr) == napi_ok && count >= kCount;
}

/// A Uint8Array; for the length of the call.
bool BytesOf(napi_env env, napi_value value, std::string_view* bytes) {
  napi_typedarray_type type;
  size_t length;
  void* data;
  if (napi_get_typedarray_info(env, value, &type, &length, &data, nullptr, nullptr) != napi_ok) return false;
  *bytes = {static_cast<const char*>(data), length};
  return type == napi_uint8_array;
}

/// A Float32Array; for the length of the call.
bool FloatsOf(napi_env env, napi_value value, float** floats, size_t* count) {
  napi_typedarray_type type;
  void* data;
  if (napi_get_typedarray_info(env, value, &type, count, &data, nullptr, nullptr) != napi_ok) return false;
  *floats = static_cast<float*>(data);
  return type == napi_float32_array;
}

bool WindowOf(napi_env env, napi_value value, float** window) {
  size_t count;
  return FloatsOf(env, value, window, &count) && count == codec::kWindowValues;
}

napi_value Boolean(napi_env env, bool value) {
  napi_value result = nullptr;
  napi_get_boolean(env, value, &result);
  return result;
}

napi_value Refuse(napi_env env, const char* expected) {
  napi_throw_type_error(env, nullptr, expected);
  return nullptr;
}

/// copyWindow(bytes, from, window): boolean
napi_value CopyWindow(napi_env env, napi_callback_info info) {
  std::array<napi_value, 3> arguments;
  std::string_view bytes;
  uint32_t from;
  float* window;
  if (!Arguments(env, info, &arguments) || !BytesOf(env, arguments[0], &bytes) ||
      napi_get_value_uint32(env, arguments[1], &from) != napi_ok || !WindowOf(env, arguments[2], &window))
    return Refuse(env, "copyWindow() takes bytes, where the window begins, and a Float32Array of 900");
  const bool fits = bytes.size() == from + codec::kWindowBytes;
  return Boolean(env, fits && codec::CopyWindow(bytes.data() + from, window));
}

/// parseWindow(text, key, window): boolean
napi_value ParseWindow(napi_env env, napi_callback_info info) {
  std::array<napi_value, 3> arguments;
  std::string_view text;
  char key[kLongestKey + 1];
  size_t key_length;
  float* window;
  if (!Arguments(env, info, &arguments) || !BytesOf(env, arguments[0], &text) ||
      napi_get_value_string_latin1(env, arguments[1], key, sizeof key, &key_length) != napi_ok ||
      !WindowOf(env, arguments[2], &window))
    return Refuse(env, "parseWindow() takes a Uint8Array, a key and a Float32Array of 900");
  return Boolean(env, codec::ParseWindow(text, {key, key_length}, window));
}

/// parseRows(text, window): boolean
napi_value ParseRows(napi_env env, napi_callback_info info) {
  std::array<napi_value, 2> arguments;
  std::string_view text;
  float* window;
  if (!Arguments(env, info, &arguments) || !BytesOf(env, arguments[0], &text) || !WindowOf(env, arguments[1], &window))
    return Refuse(env, "parseRows() takes a Uint8Array and a Float32Array of 900");
  return Boolean(env, codec::ParseRows(text, window));
}

/// joinNumbers(values): string
napi_value JoinNumbers(napi_env env, napi_callback_info info) {
  std::array<napi_value, 1> arguments;
  float* values;
  size_t count;
  if (!Arguments(env, info, &arguments) || !FloatsOf(env, arguments[0], &values, &count))
    return Refuse(env, "joinNumbers() takes a Float32Array");
  const std::unique_ptr<char[]> text(new char[count * codec::kLongestNumber]);
  const char* const end = codec::WriteNumbers(values, count, text.get());
  napi_value result = nullptr;
  napi_create_string_latin1(env, text.get(), end - text.get(), &result);
  return result;
}

}  // namespace

NAPI_MODULE_INIT() {
  const auto describe = [](const char* name, napi_callback method) {
    return napi_property_descriptor{name, nullptr, method, nullptr, nullptr, nullptr, napi_enumerable, nullptr};
  };
  const napi_property_descriptor methods[] = {
      describe("copyWindow", CopyWindow),
      describe("parseWindow", ParseWindow),
      describe("parseRows", ParseRows),
      describe("joinNumbers", JoinNumbers),
  };
  napi_define_properties(env, exports, std::size(methods), methods);
  return exports;
}
