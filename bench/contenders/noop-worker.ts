import type { StreamTask, TaskEnd } from '../../src/core/stream-task.ts'
import type { Backend } from '../../workers/backends/backend.ts'
import { serveWith } from '../../workers/serve.ts'
import { NOOP_RESULT } from './noop.ts'

/** More than rings have slots: the backend is never what is waited for. */
const DEPTH = 4096

/** The real worker around a backend that does nothing. */
export default function serveNoop(task: StreamTask): Promise<TaskEnd> {
  return serveWith(task, { open: async () => NOOP })
}

const NOOP: Backend = {
  depth: DEPTH,
  batchSize: 1,
  failure: null,
  submit() {},
  collect(output) {
    output.set(NOOP_RESULT)
    return 'ok'
  },
  close() {},
}
