import type { StreamTask, TaskEnd } from '../../src/core/stream-task.ts'
import type { Backend } from '../../workers/backends/backend.ts'
import { serveWith } from '../../workers/serve.ts'
import { NOOP_RESULT } from './noop.ts'

/** More than rings have slots: the backend is never what is waited for. */
const DEPTH = 4096

/** The real worker around a backend that does nothing. */
export default function serveNoop(task: StreamTask): Promise<TaskEnd> {
  return serveWith(task, { open: async () => openNoop() })
}

function openNoop(): Backend {
  let submitted = 0
  return {
    depth: DEPTH,
    batchSize: 1,
    get ready() {
      return submitted
    },
    failure: null,
    submit() {
      submitted++
    },
    collect(output) {
      submitted--
      output.set(NOOP_RESULT)
      return 'ok'
    },
    close() {},
  }
}
