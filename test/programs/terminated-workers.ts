/**
 * Ends workers in the middle of what they do with a stream, many times, and tells what is left of them.
 *
 *   terminated-workers.js ADDON LIBRARY HEF CYCLES kept|fresh
 *
 * kept: the main thread has a stream on the same device all the time, and each of its answers is held
 * against the first. fresh: nobody has, so that each worker opens the device anew.
 * Prints one line of JSON.
 */
import { readdirSync, readFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { isMainThread, parentPort, Worker, workerData } from 'node:worker_threads'

interface Ticket {
  // biome-ignore lint/suspicious/noExplicitAny: the addon without its types, as a sanitizer's build has its own path
  poll(): any
}

const [addonPath, library, hefPath, cyclesText, mode] = isMainThread ? process.argv.slice(2) : workerData
const addon = createRequire(import.meta.url)(addonPath)
const WINDOW = new Float32Array(new SharedArrayBuffer(3600)).map((_, index) => (index % 37) / 8 - 2)
const OUTPUT_VALUES = 76

async function opened(ticket: Ticket) {
  for (;;) {
    const result = ticket.poll()
    if (result !== undefined) return result
    await sleep(1)
  }
}

async function openStream() {
  const device = await opened(addon.openDevice(library, { deviceId: '', isSingleModel: false }))
  const stream = await opened(
    device.openStream({
      hef: readFileSync(hefPath),
      inputName: 'tcn_encoder/input_layer1',
      latentName: 'tcn_encoder/latent',
      motifHead: { weights: new Float32Array(12 * 64).fill(0.01), bias: new Float32Array(12) },
      motifCount: 12,
      isSoftmax: true,
      streamCount: 4,
    }),
  )
  return { device, stream }
}

if (isMainThread) await main()
else await serve()

/** A worker: keeps the stream full until it is ended from outside. */
async function serve(): Promise<void> {
  const { stream } = await openStream()
  const output = new Float32Array(OUTPUT_VALUES)
  for (let window = 0; window < stream.depth; window++) stream.submit(WINDOW)
  parentPort!.postMessage('full')
  while (stream.collect(output, 1000)) stream.submit(WINDOW)
  throw stream.failure()
}

async function main(): Promise<void> {
  const kept = mode === 'kept' ? await openStream() : null
  const answer = () => {
    if (kept === null) return ''
    const output = new Float32Array(OUTPUT_VALUES)
    if (!kept.stream.submit(WINDOW) || !kept.stream.collect(output, 5000)) throw kept.stream.failure()
    return output.join()
  }
  const expected = answer()
  let wrongAnswers = 0
  let failures = 0
  const killOne = async () => {
    const worker = new Worker(fileURLToPath(import.meta.url), { workerData: process.argv.slice(2) })
    worker.on('error', () => failures++)
    await new Promise(resolve => worker.once('message', resolve).once('exit', resolve))
    await sleep(Math.random() * 6)
    await worker.terminate()
    if (answer() !== expected) wrongAnswers++
  }

  const cycles = Number(cyclesText)
  for (let cycle = 0; cycle < cycles / 2; cycle++) await killOne()
  const before = usage()
  for (let cycle = 0; cycle < cycles / 2; cycle++) await killOne()
  const after = usage()
  kept?.stream.close()
  kept?.device.close()
  const tornDown = addon.awaitTeardowns(5000)
  process.stdout.write(`${JSON.stringify({ before, after, wrongAnswers, failures, tornDown })}\n`)
}

function usage() {
  addon.awaitTeardowns(5000)
  globalThis.gc?.()
  const count = (folder: string) => readdirSync(`/proc/self/${folder}`).length
  return { files: count('fd'), threads: count('task'), residentMb: process.memoryUsage().rss / 2 ** 20 }
}
