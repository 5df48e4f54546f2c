// Between the values of a user and the bytes of a stream: quantisation and layout, with HailoRT's own rounding.
#pragma once

#include "hef.h"

namespace soft {

class Transform {
 public:
  /// @returns 2 for a type that the stream cannot be made from or to, 79 for a layout we do not know
  static Status Make(const Layer& layer, const Format& user_format, Transform* transform);

  /// The user's format with every "auto" resolved.
  const Format& user_format() const { return user_format_; }
  size_t UserBytes() const;
  size_t HardwareBytes() const { return layer_.FrameBytes(); }

  /// User values to stream bytes for an input, the other way round for an output. Lengths are the caller's duty.
  void Apply(const void* source, void* target) const;

 private:
  void Quantise(const void* user, uint8_t* hardware) const;
  void Dequantise(const uint8_t* hardware, void* user) const;

  Layer layer_{};
  Format user_format_{};
};

}  // namespace soft

namespace hailo_abi {
struct InputTransformOpaque : soft::Transform {};
struct OutputTransformOpaque : soft::Transform {};
}  // namespace hailo_abi
