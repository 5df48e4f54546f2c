import { env } from 'node:process'
import { start } from '../../src/start.ts'
import type { ContenderOptions } from './contender.ts'
import { endWithParent, readOptions } from './protocol.ts'

const { backend } = readOptions<ContenderOptions['engine']>()
const worker = backend === 'noop' ? './noop-worker.js' : '../../workers/serve.js'

endWithParent()
await start(env, new URL(worker, import.meta.url))
