import { parentPort } from 'node:worker_threads'
import { NOOP_RESULT } from '../../contenders/noop.ts'

parentPort!.on('message', () => parentPort!.postMessage(NOOP_RESULT))
