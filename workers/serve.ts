import { monotonicMs } from '../src/clock.ts'
import { WorkerCounters } from '../src/core/counters.ts'
import { Ring } from '../src/core/ring.ts'
import type { StreamTask } from '../src/core/stream-task.ts'
import type { Backend } from './backends/backend.ts'
import { openStub } from './backends/stub.ts'
import { serve } from './loop.ts'

/** The one task of a worker thread, for its whole life: open a stream, serve a ring with it. */
export default function serveStream(task: StreamTask): Promise<'stopped' | 'stream_lost'> {
  return serveWith(task, openBackend)
}

/** @param open opens the stream; what it throws ends the task */
export async function serveWith(
  task: StreamTask,
  open: (task: StreamTask) => Promise<Backend>,
): Promise<'stopped' | 'stream_lost'> {
  const ring = new Ring(task.ring, task.motifCount)
  const backend = await open(task)
  const counters = new WorkerCounters(task.counters)
  try {
    counters.beat(monotonicMs()) // before "serving": a predecessor's last sign of life may be long ago
    ring.setServing(true)
    return await serve({ ring, backend, counters, normalisation: task.model?.normalisation ?? null })
  } finally {
    await backend.close()
  }
}

export async function openBackend({ model, motifCount }: StreamTask): Promise<Backend> {
  if (model === null) return openStub(motifCount)
  // Loaded only where it runs: ONNX Runtime is large, and a device image may leave it out.
  const { openOnnx } = await import('./backends/onnx.ts')
  return openOnnx(model, motifCount)
}
