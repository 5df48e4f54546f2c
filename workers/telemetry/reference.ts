import { cosineOf, topOf } from '../../src/core/golden.ts'
import type { OnnxModel } from '../../src/core/stream-task.ts'
import { LATENT_DIMS } from '../../src/core/window.ts'
import { Pace } from '../../src/telemetry/pace.ts'
import type { Backend } from '../backends/backend.ts'

/** Below this the device has lost what the float model sees. Its golden windows have 0.995 and more. */
const SMALLEST_COSINE = 0.98
/** Comparisons cost a run of the model each: one a second. */
const COMPARISONS = { everyMs: 1000, burst: 1 }

/** The float model, beside the device: does it say the same? Opened for the first window that is compared. */
export class Reference {
  readonly #model: OnnxModel
  readonly #motifCount: number
  readonly #onMissing: (error: unknown) => void
  readonly #pace = new Pace(COMPARISONS)
  #opening: Promise<Backend | null> | null = null

  /** @param onMissing told once when it cannot be opened: then it never disagrees */
  constructor(model: OnnxModel, motifCount: number, onMissing: (error: unknown) => void) {
    this.#model = model
    this.#motifCount = motifCount
    this.#onMissing = onMissing
  }

  /**
   * @param window float32[100][9], raw units @param output float32[64 + motifs], what the device said
   * @param nowMs monotonic ms @returns false too when it is not this window's turn
   */
  async disagrees(window: Float32Array, output: Float32Array, nowMs: number): Promise<boolean> {
    if (!this.#pace.take(nowMs)) return false
    this.#opening ??= this.#open()
    const backend = await this.#opening
    if (backend === null) return false
    const expected = new Float32Array(output.length)
    backend.submit(window)
    if ((await backend.collect(expected)) !== 'ok') return false // it has said nothing to compare with
    const latentOf = (result: Float32Array) => result.subarray(0, LATENT_DIMS)
    const topMotif = (result: Float32Array) => topOf(result.subarray(LATENT_DIMS))
    // Asked this way round, because an answer that is not a number agrees with nothing.
    const near = cosineOf(latentOf(output), latentOf(expected)) >= SMALLEST_COSINE
    return !near || topMotif(output) !== topMotif(expected)
  }

  /** Nothing more is compared. */
  close(): void {
    void this.#opening?.then(backend => backend?.close())
  }

  async #open(): Promise<Backend | null> {
    try {
      const { openOnnx } = await import('../backends/onnx.ts')
      return await openOnnx(this.#model, this.#motifCount)
    } catch (error) {
      this.#onMissing(error)
      return null
    }
  }
}
