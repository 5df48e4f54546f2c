import type { StreamTask, TaskEnd } from '../../src/core/stream-task.ts'
import { openBackend, serveWith } from '../../workers/serve.ts'

const CHUNK_BYTES = 2 ** 20

const { LEAK_BYTES = '0' } = process.env
const kept: Buffer[] = []
let owedBytes = 0

/** The real worker around the real backends, but for what it keeps of each window. */
export default function serveLeaking(task: StreamTask): Promise<TaskEnd> {
  return serveWith(task, {
    open: async (...plan) => {
      const backend = await openBackend(...plan)
      const submit = backend.submit.bind(backend)
      return Object.assign(backend, {
        submit(input: Float32Array) {
          leak()
          submit(input)
        },
      })
    },
  })
}

/** In chunks, so that it is this many bytes and nothing around them. */
function leak(): void {
  owedBytes += Number(LEAK_BYTES)
  for (; owedBytes >= CHUNK_BYTES; owedBytes -= CHUNK_BYTES) kept.push(Buffer.alloc(CHUNK_BYTES, 1))
}
