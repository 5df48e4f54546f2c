"""From an ONNX release to a version of the model with a HEF, by way of the user's Hailo Dataflow Compiler."""
