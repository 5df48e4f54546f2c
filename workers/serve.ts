import { setImmediate as nextTurn, setTimeout as sleep } from 'node:timers/promises'
import { parentPort, workerData } from 'node:worker_threads'
import { monotonicMs } from '../src/clock.ts'
import {
  type BackendFault,
  type DeviceReport,
  LONGEST_BACKOFF_MS,
  longerBackoffMs,
} from '../src/core/backend.ts'
import { WorkerCounters } from '../src/core/counters.ts'
import { type GoldenVectors, goldenWindow, Parity } from '../src/core/golden.ts'
import { Ring } from '../src/core/ring.ts'
import type {
  BackendPlan,
  FallbackPlan,
  StreamReport,
  StreamTask,
  SuccessorReady,
  TaskEnd,
} from '../src/core/stream-task.ts'
import { LATENT_DIMS } from '../src/core/window.ts'
import { type Backend, BackendError } from './backends/backend.ts'
import { openStub } from './backends/stub.ts'
import { type ServiceEnd, serve } from './loop.ts'

/** A backend whose opening takes longer has failed; should it open after all, it is closed again. */
const OPEN_TIMEOUT_MS = 20_000
/** What has not been given back by then will not be: the device says whether it can be opened all the same. */
const CLOSE_TIMEOUT_MS = 10_000
/** A primary that serves for less long than this is tried again with growing delay. */
const HEALTHY_AFTER_MS = 10_000
/** A successor is called or dismissed with a wake; this is for a dismissal that came just before it slept. */
const TURN_WAIT_MS = 100

/** @throws BackendError when it cannot be opened */
export type OpenBackend = (
  plan: BackendPlan,
  motifCount: number,
  onDevice: (device: DeviceReport) => void,
) => Promise<Backend>

/** The task of a worker thread for as long as its model is served: open a stream, serve a ring with it. */
export default function serveStream(task: StreamTask): Promise<TaskEnd> {
  return serveWith(task, { open: openBackend })
}

/** Loaded only where they run: ONNX Runtime is large, and a device image may leave it out. */
const loadOnnx = () => import('./backends/onnx.ts')
const loadHailo = () => import('./backends/hailo.ts')

export const openBackend: OpenBackend = async (plan, motifCount, onDevice) => {
  if (plan.kind === 'stub') return openStub(motifCount)
  if (plan.kind === 'onnx') return (await loadOnnx()).openOnnx(plan.model, motifCount)
  return (await loadHailo()).openHailo(plan.model, motifCount, onDevice)
}

// What the thread will run is loaded before there is a model to run. What keeps it from loading is told when it opens.
if (workerData === 'onnx') loadOnnx().catch(() => {})

type Tell = (report: StreamReport | SuccessorReady) => void

/**
 * @param open opens a stream; what it throws ends the task, but for a BackendError
 * @param tell hands a report to the main thread
 */
export async function serveWith(
  task: StreamTask,
  { open, tell = report => parentPort!.postMessage(report) }: { open: OpenBackend; tell?: Tell },
): Promise<TaskEnd> {
  return new StreamService(task, open, tell).run()
}

/** What this thread has to give back: no primary is opened before. */
let closed: Promise<unknown> = Promise.resolve()

/** Gives a lost stream back, beside whatever comes next: with a dead device it may take long. */
function closeInBackground(backend: Backend): void {
  const before = closed
  // In a turn of its own: the end of the task is told first.
  closed = nextTurn()
    .then(() => before)
    .then(() => backend.close())
    .catch(() => {})
}

/** Keeps one ring served: by the primary backend, and while there is none by the fallback, if any. */
class StreamService {
  readonly #task: StreamTask
  readonly #open: OpenBackend
  readonly #tell: Tell
  readonly #ring: Ring
  readonly #counters: WorkerCounters
  #report: StreamReport
  #backoffMs = 0

  constructor(task: StreamTask, open: OpenBackend, tell: Tell) {
    this.#task = task
    this.#open = open
    this.#tell = tell
    this.#ring = new Ring(task.ring, task.motifCount, task.epoch)
    this.#counters = new WorkerCounters(task.counters)
    this.#report = { worker: task.worker, epoch: task.epoch, serving: null, fault: null, device: null }
  }

  async run(): Promise<TaskEnd> {
    const { fallback, started, successor } = this.#task
    let primary = await this.#tryPrimary({ check: started })
    if (successor) {
      // Another worker serves: no fallback need do so.
      if (primary instanceof BackendError) return notOpened(primary)
      if (!this.#waitForTurn()) {
        await primary.close()
        return { ended: 'stopped' }
      }
    }
    while (true) {
      let fault: BackendFault
      if (primary instanceof BackendError) {
        fault = faultOf(primary)
        if (fallback === null) return notOpened(primary)
      } else {
        const servedFromMs = monotonicMs()
        const ended = await this.#serve(this.#task.primary, primary, null)
        if (ended !== 'stream_lost' && ended !== 'condemned') return { ended: 'stopped' }
        fault = faultOfLost(primary, ended)
        if (fallback === null) return { ended: 'stream_lost', ...fault }
        if (monotonicMs() - servedFromMs > HEALTHY_AFTER_MS) this.#backoffMs = 0
      }
      const reopened = await this.#bridge(fallback, fault)
      if (reopened === null) return { ended: 'stopped' }
      primary = reopened
    }
  }

  /** Blocks until it is this worker's turn to serve the ring. False: it never will be. */
  #waitForTurn(): boolean {
    const { worker, epoch } = this.#task
    this.#tell({ worker, epoch, ready: true })
    while (true) {
      const turn = this.#ring.waitForTurn(TURN_WAIT_MS)
      if (turn !== 'waiting') return turn === 'turn'
    }
  }

  /** Serves with the fallback until the primary is open again. Null when told to stop before that. */
  async #bridge({ plan, selfCheck }: FallbackPlan, fault: BackendFault): Promise<Backend | null> {
    if (this.#ring.superseded) return null
    // What waits is left to the fallback. To open it may take long: longer than a worker that serves
    // may go without a heartbeat, and than clients should wait to hear that their window is lost.
    this.#ring.setServing(null)
    this.#ring.passTaken()
    this.#update({ serving: null, fault, device: null })
    const fallback = await this.#openWithin(plan, selfCheck)

    const over = new AbortController()
    const reopened: { primary: Backend | null } = { primary: null }
    void this.#keepTrying(over.signal).then(primary => {
      if (!over.signal.aborted) reopened.primary = primary
      else if (primary !== null) closeInBackground(primary)
    })
    try {
      const ended = await this.#serve(plan, fallback, fault, () => reopened.primary !== null)
      if (ended === 'stream_lost' || ended === 'condemned') {
        throw new Error(`Lost the fallback: ${faultOfLost(fallback, ended).detail}`)
      }
      if (ended === 'relieved') return reopened.primary
      if (reopened.primary !== null) closeInBackground(reopened.primary)
      return null
    } finally {
      over.abort()
    }
  }

  /** Opens the primary, however often it takes. Null when `over` before that. */
  async #keepTrying(over: AbortSignal): Promise<Backend | null> {
    while (!over.aborted) {
      this.#backoffMs = longerBackoffMs(this.#backoffMs)
      await sleep(this.#backoffMs, undefined, { signal: over }).catch(() => {})
      if (over.aborted) break
      // While the fallback serves, nothing that comes of trying may end the task.
      const primary = await this.#tryPrimary({ check: true }).catch(
        error => new BackendError('open_failed', String(error)),
      )
      if (!(primary instanceof BackendError)) return primary
      this.#update({ fault: faultOf(primary), device: null })
    }
    return null
  }

  async #tryPrimary({ check }: { check: boolean }): Promise<Backend | BackendError> {
    const { primary, selfCheck } = this.#task
    try {
      await Promise.race([closed, sleep(CLOSE_TIMEOUT_MS, undefined, { ref: false })])
      return await this.#openWithin(primary, check ? selfCheck : null)
    } catch (error) {
      if (!(error instanceof BackendError)) throw error
      if (error.permanent) this.#backoffMs = LONGEST_BACKOFF_MS
      return error
    }
  }

  /**
   * @param golden what it must answer. Null: it is not asked
   * @throws BackendError also when it takes too long, or when what it answers is wrong
   */
  async #openWithin(plan: BackendPlan, golden: GoldenVectors | null): Promise<Backend> {
    const opening = this.#open(plan, this.#task.motifCount, device => this.#update({ device }))
    const opened = new AbortController()
    const backend = await Promise.race([
      opening,
      sleep(OPEN_TIMEOUT_MS, null, { signal: opened.signal }).catch(() => null),
    ]).finally(() => opened.abort())
    if (backend === null) {
      void opening.then(closeInBackground, () => {})
      throw new BackendError('timeout', `${plan.kind} has not opened within ${OPEN_TIMEOUT_MS / 1000} s`)
    }
    const fault = golden !== null ? await faultIn(backend, plan, golden) : null
    if (fault === null) return backend
    closeInBackground(backend)
    throw fault
  }

  /** Serves the ring with what was opened, and closes it. @param fault why it is not the primary */
  async #serve(
    { kind }: BackendPlan,
    backend: Backend,
    fault: BackendFault | null,
    until?: () => boolean,
  ): Promise<ServiceEnd> {
    const { generation, normalisation } = this.#task
    this.#update({ serving: kind, fault })
    this.#counters.beat(monotonicMs()) // before "serving": a predecessor's last sign of life may be long ago
    this.#ring.setServing(kind)
    const stream = { ring: this.#ring, backend, kind, counters: this.#counters, generation, normalisation }
    let sound = false
    try {
      const ended = await serve(until ? { ...stream, until } : stream)
      sound = ended !== 'stream_lost' && ended !== 'condemned'
      return ended
    } finally {
      if (sound) await backend.close()
      else closeInBackground(backend)
    }
  }

  #update(changed: Partial<StreamReport>): void {
    this.#report = { ...this.#report, ...changed }
    this.#tell(this.#report)
  }
}

/** What keeps a backend that was just opened from being used: null when it answers like the trained model. */
async function faultIn(
  backend: Backend,
  { kind }: BackendPlan,
  golden: GoldenVectors,
): Promise<BackendError | null> {
  const parity = Parity.of(kind, golden)
  if (parity === null) return null
  const output = new Float32Array(LATENT_DIMS + golden.motifScores.length / golden.count)
  for (let index = 0; index < golden.count; index++) {
    backend.submit(goldenWindow(golden, index))
    const outcome = await backend.collect(output)
    if (outcome !== 'ok') return new BackendError(backend.failure!.cause, backend.failure!.detail)
    parity.add(output, index)
  }
  return parity.holds ? null : new BackendError('wrong_answers', String(parity), { permanent: true })
}

/** Why a backend that has served does so no more. */
function faultOfLost({ failure }: Backend, ended: 'stream_lost' | 'condemned'): BackendFault {
  if (ended === 'stream_lost') return faultOf(failure!)
  return { cause: 'wrong_answers', detail: 'golden windows got other answers than the trained model gives' }
}

function notOpened({ cause, detail, permanent }: BackendError): TaskEnd {
  return { ended: 'not_opened', cause, detail, permanent }
}

function faultOf({ cause, detail }: BackendFault): BackendFault {
  return { cause, detail }
}
