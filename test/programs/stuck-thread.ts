import { openSync } from 'node:fs'
import { isMainThread, parentPort, Worker, workerData } from 'node:worker_threads'
import { waitForNoThread } from '../../src/supervisor/end.ts'

// Ends with 75 while a thread sits in open() of a FIFO that nobody writes to: argument 1. With argument 2, waits for it.
if (!isMainThread) {
  parentPort!.postMessage('about to')
  openSync(workerData, 'r')
} else {
  const [, , fifo, waits] = process.argv
  const thread = new Worker(new URL(import.meta.url), { workerData: fifo })
  thread.once('message', () =>
    setTimeout(() => {
      void thread.terminate()
      process.once('exit', () => process.stdout.write('exit was heard of'))
      if (waits === undefined) waitForNoThread('must')
      process.exit(75)
    }, 200),
  )
}
