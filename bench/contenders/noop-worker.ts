import type { StreamTask, TaskEnd } from '../../src/core/stream-task.ts'
import type { Backend } from '../../workers/backends/backend.ts'
import { serveWith } from '../../workers/serve.ts'
import { NOOP_RESULT } from './noop.ts'

/** More than rings have slots: the backend is never what is waited for. A power of two. */
const DEPTH = 4096

/** The real worker around a backend that does nothing. */
export default function serveNoop(task: StreamTask): Promise<TaskEnd> {
  return serveWith(task, { open: async () => openNoop() })
}

function openNoop(): Backend {
  const firstValues = new Float32Array(DEPTH)
  let submitted = 0
  let collected = 0
  return {
    depth: DEPTH,
    batchSize: 1,
    get ready() {
      return submitted - collected
    },
    failure: null,
    submit(input) {
      firstValues[submitted++ % DEPTH] = input[0]!
    },
    collect(output) {
      output.set(NOOP_RESULT)
      output[0] = firstValues[collected++ % DEPTH]!
      return 'ok'
    },
    close() {},
  }
}
