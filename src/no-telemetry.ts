/**
 * ONNX Runtime tells its makers of what it runs, over the network and by files in the home folder, where the environment
 * of the process does not say otherwise. A thread has a copy of that environment which libraries do not see, so every
 * program that may run it loads this first.
 */
process.env['ORT_DISABLE_TELEMETRY'] = '1'
