// Ends the process as exit() would, but at once: no thread is waited for, no destructor runs.
#include <node_api.h>
#include <unistd.h>

namespace {

/// endNow(code): never
napi_value EndNow(napi_env env, napi_callback_info info) {
  size_t count = 1;
  napi_value argument = nullptr;
  int32_t code = 0;
  if (napi_get_cb_info(env, info, &count, &argument, nullptr, nullptr) != napi_ok ||
      napi_get_value_int32(env, argument, &code) != napi_ok) {
    napi_throw_type_error(env, nullptr, "expected an exit code");
    return nullptr;
  }
  _exit(code);
}

}  // namespace

NAPI_MODULE_INIT() {
  napi_value function;
  if (napi_create_function(env, "endNow", NAPI_AUTO_LENGTH, EndNow, nullptr, &function) == napi_ok) {
    napi_set_named_property(env, exports, "endNow", function);
  }
  return exports;
}
