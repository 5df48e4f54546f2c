// What JavaScript sees: names and argument checks.
#define NODE_ADDON_API_DISABLE_CPP_EXCEPTIONS
#define NODE_API_SWALLOW_UNTHROWABLE_EXCEPTIONS  // a worker that is being terminated can throw nothing

#include <napi.h>

#include <chrono>
#include <cmath>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "stream.h"
#include "teardown.h"

namespace {

using shim::Cause;
using shim::Failure;
using std::chrono::milliseconds;

/// How long the end of a worker waits for its streams to be released.
constexpr milliseconds kCleanupTimeout{500};

/// Holds something native that the end of its environment closes, if nobody has before.
class Closable {
 public:
  using Registry = std::set<Closable*>;

  virtual ~Closable() {
    if (registry_ != nullptr) registry_->erase(this);
  }
  virtual void CloseNow() = 0;

  void Register(const std::shared_ptr<Registry>& registry) {
    registry_ = registry;
    registry_->insert(this);
  }

 private:
  std::shared_ptr<Registry> registry_;  // shared, as objects may be finalised after the environment's own data
};

/// What one environment, that is one thread of JavaScript, has of us.
struct Environment {
  Napi::FunctionReference device, stream, ticket;
  const std::shared_ptr<Closable::Registry> open = std::make_shared<Closable::Registry>();
};

/// @param registry of an environment that ends
void CloseAll(const Closable::Registry& registry) {
  for (Closable* closable : registry) closable->CloseNow();
  shim::AwaitTeardowns(kCleanupTimeout);
}

Environment& Of(Napi::Env env) { return *env.GetInstanceData<Environment>(); }

/// An Error with the index of its cause, see FAILURE_CAUSES in native/index.ts.
Napi::Error ErrorOf(Napi::Env env, const Failure& failure) {
  Napi::Error error = Napi::Error::New(env, failure.what());
  error.Set("failureCause", static_cast<double>(failure.cause));
  return error;
}

template <typename Class, typename Native>
Napi::Object Wrap(const Napi::FunctionReference& constructor, Napi::Env env, Native native) {
  const Napi::Object object = constructor.New({});
  if (object.IsEmpty()) return object;  // the worker is being terminated: `native` closes with us
  Class* wrapped = Napi::ObjectWrap<Class>::Unwrap(object);
  wrapped->native_ = std::move(native);
  wrapped->Register(Of(env).open);
  return object;
}

/// One stream of one worker.
class StreamObject final : public Napi::ObjectWrap<StreamObject>, public Closable {
 public:
  static Napi::Function Define(Napi::Env env) {
    return DefineClass(env, "Stream",
                       {
                           InstanceAccessor<&StreamObject::Depth>("depth"),
                           InstanceMethod<&StreamObject::Submit>("submit"),
                           InstanceMethod<&StreamObject::Collect>("collect"),
                           InstanceMethod<&StreamObject::FailureOf>("failure"),
                           InstanceMethod<&StreamObject::Close>("close"),
                       });
  }

  explicit StreamObject(const Napi::CallbackInfo& info) : Napi::ObjectWrap<StreamObject>(info) {}
  void CloseNow() override { native_.reset(); }

  std::shared_ptr<shim::Stream> native_;

 private:
  Napi::Value Depth(const Napi::CallbackInfo& info) {
    return Napi::Number::New(info.Env(), native_ ? static_cast<double>(native_->depth()) : 0);
  }

  /// submit(window: Float32Array): boolean
  Napi::Value Submit(const Napi::CallbackInfo& info) {
    const float* window = Floats(info, 0, shim::kWindowValues);
    if (window == nullptr) return {};
    return Napi::Boolean::New(info.Env(), native_->Submit(window));
  }

  /// collect(output: Float32Array, timeoutMs: number): boolean
  Napi::Value Collect(const Napi::CallbackInfo& info) {
    float* output = Floats(info, 0, shim::kLatentDims + 1);
    if (output == nullptr) return {};
    const milliseconds timeout(info[1].As<Napi::Number>().Int64Value());
    return Napi::Boolean::New(info.Env(), native_->Collect(output, timeout));
  }

  /// failure(): Error | null
  Napi::Value FailureOf(const Napi::CallbackInfo& info) {
    if (native_ == nullptr || native_->IsUsable()) return info.Env().Null();
    return ErrorOf(info.Env(), *native_->failure()).Value();
  }

  void Close(const Napi::CallbackInfo&) { CloseNow(); }

  /// The memory of a Float32Array of at least `length` values; null, with a TypeError thrown, for anything else.
  float* Floats(const Napi::CallbackInfo& info, size_t argument, size_t length) {
    const Napi::Value value = info[argument];
    if (native_ == nullptr) {
      Napi::Error::New(info.Env(), "The stream is closed").ThrowAsJavaScriptException();
      return nullptr;
    }
    if (value.IsTypedArray()) {
      Napi::TypedArray array = value.As<Napi::TypedArray>();
      if (array.TypedArrayType() == napi_float32_array && array.ElementLength() >= length) {
        return array.As<Napi::Float32Array>().Data();
      }
    }
    Napi::TypeError::New(info.Env(), "Expected a Float32Array of at least " + std::to_string(length) + " values")
        .ThrowAsJavaScriptException();
    return nullptr;
  }
};

/// A share in the process' vdevice.
class DeviceObject final : public Napi::ObjectWrap<DeviceObject>, public Closable {
 public:
  static Napi::Function Define(Napi::Env env) {
    return DefineClass(env, "Device",
                       {
                           InstanceMethod<&DeviceObject::Describe>("describe"),
                           InstanceMethod<&DeviceObject::State>("state"),
                           InstanceMethod<&DeviceObject::IsLost>("isLost"),
                           InstanceMethod<&DeviceObject::OpenStream>("openStream"),
                           InstanceMethod<&DeviceObject::Close>("close"),
                       });
  }

  explicit DeviceObject(const Napi::CallbackInfo& info) : Napi::ObjectWrap<DeviceObject>(info) {}
  void CloseNow() override { native_.reset(); }

  std::shared_ptr<shim::VDevice> native_;

 private:
  Napi::Value Describe(const Napi::CallbackInfo& info);
  Napi::Value State(const Napi::CallbackInfo& info);
  Napi::Value IsLost(const Napi::CallbackInfo& info) {
    return Napi::Boolean::New(info.Env(), native_ == nullptr || native_->is_retired());
  }
  Napi::Value OpenStream(const Napi::CallbackInfo& info);

  void Close(const Napi::CallbackInfo&) { CloseNow(); }
};

/// Something that another thread opens. It keeps no environment alive, and what is opened after
/// nobody wants it any more is closed again.
class TicketObject final : public Napi::ObjectWrap<TicketObject>, public Closable {
 public:
  /// Turns what was opened into its object, on the thread of JavaScript.
  using Deliver = std::function<Napi::Value(Napi::Env env)>;

  static Napi::Function Define(Napi::Env env) {
    return DefineClass(
        env, "Ticket",
        {InstanceMethod<&TicketObject::Poll>("poll"), InstanceMethod<&TicketObject::Abandon>("abandon")});
  }

  explicit TicketObject(const Napi::CallbackInfo& info) : Napi::ObjectWrap<TicketObject>(info) {}
  ~TicketObject() override {
    if (work_ != nullptr) CloseNow();
  }

  void CloseNow() override {
    const std::lock_guard<std::mutex> lock(work_->mutex);
    work_->is_abandoned = true;
    work_->deliver = nullptr;
  }

  /// @param open runs on a thread of its own; what it throws, poll() throws
  static Napi::Value Start(Napi::Env env, std::function<Deliver()> open) {
    const Napi::Object object = Of(env).ticket.New({});
    if (object.IsEmpty()) return object;
    const auto work = std::make_shared<Work>();
    TicketObject* ticket = Unwrap(object);
    ticket->work_ = work;
    ticket->Register(Of(env).open);
    std::thread([work, open = std::move(open)] {
      Deliver deliver;
      std::unique_ptr<Failure> failure;
      try {
        deliver = open();
      } catch (const Failure& thrown) {
        failure = std::make_unique<Failure>(thrown);
      } catch (const std::exception& thrown) {
        failure = std::make_unique<Failure>(Cause::kOpenFailed, thrown.what());
      }
      const std::lock_guard<std::mutex> lock(work->mutex);
      if (!work->is_abandoned) work->deliver = std::move(deliver);
      work->failure = std::move(failure);
    }).detach();
    return object;
  }

 private:
  struct Work {
    std::mutex mutex;
    bool is_abandoned = false;
    Deliver deliver;
    std::unique_ptr<Failure> failure;
  };

  /// poll(): undefined while it is being opened, then what was opened. Throws what kept it from opening.
  Napi::Value Poll(const Napi::CallbackInfo& info) {
    const std::lock_guard<std::mutex> lock(work_->mutex);
    if (work_->failure != nullptr) {
      ErrorOf(info.Env(), *work_->failure).ThrowAsJavaScriptException();
      return {};
    }
    // Moved out, so that the object alone holds what was opened.
    const Deliver deliver = std::move(work_->deliver);
    return deliver ? deliver(info.Env()) : info.Env().Undefined();
  }

  void Abandon(const Napi::CallbackInfo&) { CloseNow(); }

  std::shared_ptr<Work> work_;
};

Napi::Object ObjectOf(Napi::Env env, const shim::DeviceDescription& description) {
  Napi::Object object = Napi::Object::New(env);
  object.Set("id", description.id);
  object.Set("board", description.board);
  object.Set("product", description.product);
  object.Set("serial", description.serial);
  object.Set("firmware", description.firmware);
  object.Set("architecture", description.architecture);
  return object;
}

Napi::Value DeviceObject::Describe(const Napi::CallbackInfo& info) {
  if (native_ == nullptr) return info.Env().Undefined();
  return ObjectOf(info.Env(), native_->description());
}

Napi::Value DeviceObject::State(const Napi::CallbackInfo& info) {
  if (native_ == nullptr) return info.Env().Undefined();
  const shim::DeviceState state = native_->State();
  Napi::Object object = Napi::Object::New(info.Env());
  object.Set("temperatureCelsius", state.temperature_celsius);
  object.Set("clockHz", state.clock_hz);
  object.Set("isThrottled", state.is_throttled);
  object.Set("utilisationPercent", state.utilisation_percent);
  object.Set("generation", static_cast<double>(state.generation));
  return object;
}

std::string TextOf(const Napi::Object& options, const char* name) {
  const Napi::Value value = options.Get(name);
  return value.IsString() ? value.As<Napi::String>().Utf8Value() : "";
}

bool FlagOf(const Napi::Object& options, const char* name) { return options.Get(name).ToBoolean(); }

std::vector<float> FloatsOf(const Napi::Value& value) {
  const Napi::Float32Array array = value.As<Napi::Float32Array>();
  return std::vector<float>(array.Data(), array.Data() + array.ElementLength());
}

std::array<float, shim::kChannels> ChannelsOf(const Napi::Value& value) {
  std::array<float, shim::kChannels> channels{};
  const std::vector<float> values = FloatsOf(value);
  std::copy_n(values.begin(), std::min(values.size(), channels.size()), channels.begin());
  return channels;
}

/// device.openStream(options): Ticket
Napi::Value DeviceObject::OpenStream(const Napi::CallbackInfo& info) {
  const Napi::Object from = info[0].As<Napi::Object>();
  const auto options = std::make_shared<shim::StreamOptions>();
  options->input_name = TextOf(from, "inputName");
  options->latent_name = TextOf(from, "latentName");
  options->motif_name = TextOf(from, "motifName");
  options->motif_count = from.Get("motifCount").ToNumber().Uint32Value();
  options->is_softmax = FlagOf(from, "isSoftmax");
  options->is_vstream = FlagOf(from, "isVstream");
  options->stream_count = from.Get("streamCount").ToNumber().Uint32Value();
  if (const Napi::Value head = from.Get("motifHead"); head.IsObject()) {
    const Napi::Object object = head.As<Napi::Object>();
    options->motif_head = shim::MotifHead{FloatsOf(object.Get("weights")), FloatsOf(object.Get("bias"))};
  }
  if (const Napi::Value normalisation = from.Get("normalisation"); normalisation.IsObject()) {
    const Napi::Object object = normalisation.As<Napi::Object>();
    options->normalisation = shim::Normalisation{ChannelsOf(object.Get("mean")), ChannelsOf(object.Get("std"))};
  }
  const bool is_sound =
      options->motif_count > 0 && options->stream_count > 0 && from.Get("hef").IsTypedArray() &&
      (!options->motif_head || (options->motif_head->bias.size() == options->motif_count &&
                                options->motif_head->weights.size() == options->motif_count * shim::kLatentDims));
  if (native_ == nullptr || !is_sound) {
    Napi::TypeError::New(info.Env(), "Expected an open device and the options of a stream")
        .ThrowAsJavaScriptException();
    return {};
  }
  // Copied: the worker may be gone, and its memory with it, before the thread has read the HEF.
  const Napi::Uint8Array hef = from.Get("hef").As<Napi::Uint8Array>();
  const auto bytes = std::make_shared<std::vector<uint8_t>>(hef.Data(), hef.Data() + hef.ElementLength());
  return TicketObject::Start(info.Env(), [vdevice = native_, options, bytes]() -> TicketObject::Deliver {
    options->hef = {bytes->data(), bytes->size()};
    const std::shared_ptr<shim::Stream> stream = shim::Stream::Open(vdevice, *options);
    return [stream](Napi::Env env) -> Napi::Value { return Wrap<StreamObject>(Of(env).stream, env, stream); };
  });
}

/// openDevice(library: string, options: {deviceId, isSingleModel}): Ticket
Napi::Value OpenDevice(const Napi::CallbackInfo& info) {
  const std::string path = info[0].ToString();
  const Napi::Object from = info[1].As<Napi::Object>();
  const shim::VDeviceOptions options{TextOf(from, "deviceId"), FlagOf(from, "isSingleModel")};
  return TicketObject::Start(info.Env(), [path, options]() -> TicketObject::Deliver {
    const std::shared_ptr<shim::VDevice> vdevice = shim::VDevice::Acquire(shim::Library::Open(path), options);
    return [vdevice](Napi::Env env) -> Napi::Value { return Wrap<DeviceObject>(Of(env).device, env, vdevice); };
  });
}

/// openLibrary(path: string): {path, version}
Napi::Value OpenLibrary(const Napi::CallbackInfo& info) {
  const std::string path = info[0].ToString();
  try {
    const shim::Library& library = shim::Library::Open(path);
    Napi::Object object = Napi::Object::New(info.Env());
    object.Set("path", library.path);
    object.Set("version", library.VersionText());
    return object;
  } catch (const Failure& failure) {
    ErrorOf(info.Env(), failure).ThrowAsJavaScriptException();
    return {};
  }
}

/// describeDevices(library: string): Ticket
Napi::Value DescribeDevices(const Napi::CallbackInfo& info) {
  const std::string path = info[0].ToString();
  return TicketObject::Start(info.Env(), [path]() -> TicketObject::Deliver {
    const auto devices = shim::DescribeDevices(shim::Library::Open(path));
    return [devices](Napi::Env env) -> Napi::Value {
      Napi::Array array = Napi::Array::New(env, devices.size());
      for (uint32_t index = 0; index < devices.size(); index++) array.Set(index, ObjectOf(env, devices[index]));
      return array;
    };
  });
}

/// awaitTeardowns(timeoutMs: number): boolean. Blocks.
Napi::Value AwaitTeardowns(const Napi::CallbackInfo& info) {
  const milliseconds timeout(info[0].As<Napi::Number>().Int64Value());
  return Napi::Boolean::New(info.Env(), shim::AwaitTeardowns(timeout));
}

Napi::Object Init(Napi::Env env, Napi::Object exports) {
  auto* environment = new Environment;
  env.SetInstanceData(environment);
  environment->device = Napi::Persistent(DeviceObject::Define(env));
  environment->stream = Napi::Persistent(StreamObject::Define(env));
  environment->ticket = Napi::Persistent(TicketObject::Define(env));
  env.AddCleanupHook([open = environment->open] { CloseAll(*open); });

  exports.Set("openLibrary", Napi::Function::New<OpenLibrary>(env));
  exports.Set("openDevice", Napi::Function::New<OpenDevice>(env));
  exports.Set("describeDevices", Napi::Function::New<DescribeDevices>(env));
  exports.Set("awaitTeardowns", Napi::Function::New<AwaitTeardowns>(env));
  return exports;
}

NODE_API_MODULE(hailort, Init)

}  // namespace
