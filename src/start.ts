import './no-telemetry.ts'
import { monotonicMs } from './clock.ts'
import { loadConfig } from './config.ts'
import { startThreads } from './engine/threads.ts'
import { Systemd } from './supervisor/systemd.ts'

const WORKER_URL = new URL('../workers/serve.js', import.meta.url)

/**
 * Starts the service that the environment describes. It is ready once the model has shown that it
 * answers rightly. SIGTERM and SIGINT drain it.
 * @param workerUrl another worker, for tests of what happens when one fails
 * @throws ConfigError, ModelError, StartError
 */
export async function start(env: NodeJS.ProcessEnv, workerUrl = WORKER_URL): Promise<void> {
  const startedMs = monotonicMs()
  const systemd = Systemd.takeFrom(env)
  const config = loadConfig(env)
  // First, as where it is missing this process ends, and an end while threads load ONNX Runtime is an abort.
  await import('uWebSockets.js')
  const threads = startThreads(workerUrl, config.workers, config.mode)
  // Imported here, so that the threads start while this one loads all that there is.
  const { assemble } = await import('./assemble.ts')
  await assemble({ config, threads, startedMs, systemd })
}

/** Loads what a start would load first. Opens nothing. */
export async function load(): Promise<void> {
  await Promise.all([import('./assemble.ts'), import('./http/server.ts')])
}
