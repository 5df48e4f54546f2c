import { type InferenceSession, InferenceSession as Session, Tensor } from 'onnxruntime-node'
import { softmax } from '../../src/core/motif-head.ts'
import { normalise } from '../../src/core/normalise.ts'
import type { OnnxModel } from '../../src/core/stream-task.ts'
import { CHANNELS, LATENT_DIMS, TIMESTEPS, WINDOW_VALUES } from '../../src/core/window.ts'
import type { Backend } from './backend.ts'

/** Beyond this, a larger batch gains nothing on the CPU and only delays the first result. */
const LARGEST_BATCH = 16

/** Opens an ONNX Runtime session on the CPU, with one thread of its own: this one. */
export async function openOnnx(model: OnnxModel, motifCount: number): Promise<Backend> {
  // ONNX Runtime does not read from shared memory.
  const session = await Session.create(new Uint8Array(model.bytes), {
    executionProviders: ['cpu'],
    executionMode: 'sequential',
    intraOpNumThreads: 1,
    interOpNumThreads: 1,
  })
  return new OnnxBackend(session, model, motifCount, largestBatch(session, model))
}

function largestBatch(session: InferenceSession, { inputName }: OnnxModel): number {
  const input = session.inputMetadata.find(({ name }) => name === inputName)
  const shape = input?.isTensor ? input.shape : []
  const [batch, ...window] = shape
  if (window.join() !== `${TIMESTEPS},${CHANNELS}` || (typeof batch === 'number' && batch !== 1)) {
    throw new Error(
      `Cannot run model: its input ${inputName} is [${shape}], expected [batch,${TIMESTEPS},${CHANNELS}] with a dynamic batch or 1`,
    )
  }
  return batch === 1 ? 1 : LARGEST_BATCH
}

/** Collects what was submitted into one run of the session. While one batch is given out, the next fills. */
class OnnxBackend implements Backend {
  readonly depth: number
  batchSize = 0
  readonly failure = null
  readonly #session: InferenceSession
  readonly #model: OnnxModel
  readonly #runs: Run[]
  /** Windows waiting for the next run, float32[depth][100][9], z-scored. */
  readonly #staged: Float32Array
  #stagedCount = 0
  readonly #latents: Float32Array
  readonly #motifs: Float32Array
  /** Of the last batch: its size, and how many of it were given out. */
  #ran = 0
  #given = 0

  constructor(session: InferenceSession, model: OnnxModel, motifCount: number, depth: number) {
    this.depth = depth
    this.#session = session
    this.#model = model
    this.#staged = new Float32Array(depth * WINDOW_VALUES)
    this.#latents = new Float32Array(depth * LATENT_DIMS)
    this.#motifs = new Float32Array(depth * motifCount)
    // Tensors over the same memory for every batch size, so that a run allocates none.
    this.#runs = Array.from({ length: depth }, (_, index) => ({
      feeds: { [model.inputName]: tensor(this.#staged, index + 1, [TIMESTEPS, CHANNELS]) },
      fetches: {
        [model.latentName]: tensor(this.#latents, index + 1, [LATENT_DIMS]),
        [model.motifName]: tensor(this.#motifs, index + 1, [motifCount]),
      },
    }))
  }

  get ready(): number {
    return this.#ran - this.#given
  }

  submit(input: Float32Array): void {
    const offset = this.#stagedCount * WINDOW_VALUES
    normalise(input, this.#model.normalisation, this.#staged.subarray(offset, offset + WINDOW_VALUES))
    this.#stagedCount++
  }

  collect(output: Float32Array): 'ok' | Promise<'ok'> {
    this.batchSize = 0
    if (this.ready > 0) return this.#give(output)
    return this.#run().then(() => this.#give(output))
  }

  async #run(): Promise<void> {
    const { feeds, fetches } = this.#runs[this.#stagedCount - 1]!
    await this.#session.run(feeds, fetches)
    this.batchSize = this.#ran = this.#stagedCount
    this.#given = this.#stagedCount = 0
  }

  #give(output: Float32Array): 'ok' {
    const motifCount = output.length - LATENT_DIMS
    const at = this.#given++
    output.set(this.#latents.subarray(at * LATENT_DIMS, (at + 1) * LATENT_DIMS))
    const motifs = this.#motifs.subarray(at * motifCount, (at + 1) * motifCount)
    if (this.#model.motifActivation === 'softmax') softmax(motifs, output.subarray(LATENT_DIMS))
    else output.set(motifs, LATENT_DIMS)
    return 'ok'
  }

  close(): Promise<void> {
    return this.#session.release()
  }
}

interface Run {
  readonly feeds: InferenceSession.FeedsType
  readonly fetches: InferenceSession.FetchesType
}

function tensor(memory: Float32Array, batch: number, dims: readonly number[]): Tensor {
  const values = dims.reduce((product, dim) => product * dim, batch)
  return new Tensor('float32', memory.subarray(0, values), [batch, ...dims])
}
