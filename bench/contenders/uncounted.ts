/** Our own server as `engine` starts it, but for what its main thread counts and tells: none of that is done. */
import { env } from 'node:process'
import { Metrics } from '../../src/metrics.ts'
import { start } from '../../src/start.ts'
import { Witnesses } from '../../src/witnesses.ts'
import type { ContenderOptions } from './contender.ts'
import { endWithParent, readOptions } from './protocol.ts'

const { backend } = readOptions<ContenderOptions['uncounted']>()
const worker = backend === 'noop' ? './noop-worker.js' : '../../workers/serve.js'

const nothing = () => {}
Object.assign(Witnesses.prototype, { windowAnswered: nothing, windowFailed: nothing })
Object.assign(Metrics.prototype, {
  inferenceEnded: nothing,
  refused: nothing,
  cancelled: nothing,
  answered: nothing,
  framed: nothing,
})
endWithParent()
await start(env, new URL(worker, import.meta.url))
