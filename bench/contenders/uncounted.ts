/**
 * Our own server as `engine` starts it, but for what its main thread counts and tells: none of that is done, but for
 * how full each ring was, which costs a comparison per window.
 */
import { env } from 'node:process'
import { Metrics } from '../../src/metrics.ts'
import { start } from '../../src/start.ts'
import { Witnesses } from '../../src/witnesses.ts'
import type { ContenderOptions } from './contender.ts'
import { endWithParent, readOptions } from './protocol.ts'

const { backend } = readOptions<ContenderOptions['uncounted']>()
const worker = backend === 'noop' ? './noop-worker.js' : '../../workers/serve.js'

const nothing = () => {}
const uncountedRow = {
  get count() {
    return 0
  },
  set count(_) {},
}
Object.assign(Witnesses.prototype, { windowAnswered: nothing, windowFailed: nothing })
Object.assign(Metrics.prototype, {
  inferenceEnded: nothing,
  refused: nothing,
  cancelled: nothing,
  answered: nothing,
  framed: nothing,
  frames: () => uncountedRow,
})
endWithParent()
await start(env, new URL(worker, import.meta.url))
