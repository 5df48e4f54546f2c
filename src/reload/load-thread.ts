import { setPriority } from 'node:os'
import { parentPort, workerData } from 'node:worker_threads'
import { loadFallback, loadModel, loadReference, ModelError } from '../model.ts'
import type { LoadAnswer, LoadTask } from './model-loader.ts'

/** The program of the thread that reads models while another serves: once for each message. */

/** Threads have a priority of their own on Linux: a model can wait, answers cannot. */
const NICENESS = 5

async function load({ config, wantsReference }: LoadTask): Promise<LoadAnswer> {
  try {
    const model = await loadModel(config)
    const fallback = loadFallback(config, model)
    return { model, fallback, reference: wantsReference ? loadReference(config, model) : null }
  } catch (error) {
    if (error instanceof ModelError) return { refused: error.message }
    throw error
  }
}

if (process.platform === 'linux') setPriority(NICENESS)
parentPort!.on('message', () => load(workerData).then(answer => parentPort!.postMessage(answer)))
