import type { BackendFault, BackendKind, DeviceReport } from './backend.ts'
import type { GoldenVectors } from './golden.ts'
import type { Normalisation } from './normalise.ts'

/** What a worker is given when it starts: everything it needs, in a form that crosses threads. */
export interface StreamTask {
  readonly worker: number
  /** The ring to serve, see Ring. */
  readonly ring: SharedArrayBuffer
  /** The ring is this worker's while it has this epoch, see Ring. */
  readonly epoch: number
  /** See WorkerCounters. */
  readonly counters: SharedArrayBuffer
  readonly motifCount: number
  readonly primary: BackendPlan
  /** Serves while the primary cannot. Null: nothing does. */
  readonly fallback: FallbackPlan | null
  /** What windows of the training data look like, to know those in other units. Null: nobody knows. */
  readonly normalisation: Normalisation | null
  /** A few windows that the primary must answer rightly before it serves. Null: it is not asked. */
  readonly selfCheck: GoldenVectors | null
  /** Counts the models that were served: 0 is that of the start. */
  readonly generation: number
  /** Another worker serves the ring: this one opens the primary, says that it is ready, and waits for its turn. */
  readonly successor: boolean
  /** False while the service starts: what a task then opens first is checked thoroughly afterwards. */
  readonly started: boolean
}

/** How a task ends that did not throw. */
export type TaskEnd =
  /** As it was told to. */
  | { readonly ended: 'stopped' }
  /** The backend is of no use any more. */
  | ({ readonly ended: 'stream_lost' } & BackendFault)
  /** `permanent`: trying again will not help before somebody has changed something. */
  | ({ readonly ended: 'not_opened'; readonly permanent: boolean } & BackendFault)

/** What a worker tells of its own accord, whole each time: what serves its ring, and with what. */
export interface StreamReport {
  readonly worker: number
  /** That of its task: what comes from a worker that was given up is not listened to. */
  readonly epoch: number
  /** Null while none is open. */
  readonly serving: BackendKind | null
  /** Why the primary does not serve. Null while it does. */
  readonly fault: BackendFault | null
  readonly device: DeviceReport | null
}

/** A successor has a backend that answers rightly, and waits. */
export interface SuccessorReady {
  readonly worker: number
  readonly epoch: number
  readonly ready: true
}

/** Another model than the primary's, of another file: it has golden vectors of its own. */
export interface FallbackPlan {
  readonly plan: BackendPlan
  /** As that of the primary. */
  readonly selfCheck: GoldenVectors | null
}

/** What to open, and with which model. */
export type BackendPlan =
  | { readonly kind: 'stub' }
  | { readonly kind: 'onnx'; readonly model: OnnxModel }
  | { readonly kind: 'hailo'; readonly model: HailoModel }

/** The part of the model's manifest that ONNX Runtime needs. */
export interface OnnxModel {
  /** The ONNX file, already verified against its checksum */
  readonly bytes: Uint8Array
  /** float32[n][100][9], z-scored by the host */
  readonly inputName: string
  /** float32[n][64] */
  readonly latentName: string
  /** float32[n][motifs] */
  readonly motifName: string
  /** What turns the motif output into scores. */
  readonly motifActivation: 'softmax' | 'none'
  readonly normalisation: Normalisation
}

/** A compiled model, and the device to run it on. */
export interface HailoModel {
  /** The HEF, already verified against its checksum, in shared memory */
  readonly hef: Uint8Array
  /** The device that the HEF was compiled for, in its own word: `hailo8`, `hailo8p`, … */
  readonly architecture: string
  /** Only the software HailoRT runs it. */
  readonly software: boolean
  /** Path of libhailort, null for where the system keeps it. */
  readonly library: string | null
  /** Null for any. */
  readonly deviceId: string | null
  readonly io: 'async' | 'vstream'
  readonly scheduler: 'round_robin' | 'none'
  /** Workers that share the device, each with a stream of its own. */
  readonly streamCount: number
  /** Names of the HEF's streams. */
  readonly inputName: string
  readonly latentName: string
  /** Null when the HEF ends at the latent: then `motifHead` is there. */
  readonly motifName: string | null
  /** What turns the motif output, or that of the head, into scores. */
  readonly motifActivation: 'softmax' | 'none'
  readonly motifHead: MotifHead | null
  /** Null when the HEF does the z-score itself. */
  readonly normalisation: Normalisation | null
}

/** The last layer, computed by the host: weights · latent + bias. */
export interface MotifHead {
  /** float32[motifs][64] */
  readonly weights: Float32Array
  /** float32[motifs] */
  readonly bias: Float32Array
}
