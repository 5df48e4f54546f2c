import type { Normalisation } from './normalise.ts'

/** What a worker is given when it starts: everything it needs, in a form that crosses threads. */
export interface StreamTask {
  /** The ring to serve, see Ring. */
  readonly ring: SharedArrayBuffer
  /** See WorkerCounters. */
  readonly counters: SharedArrayBuffer
  readonly motifCount: number
  /** Null runs the stub. */
  readonly model: StreamModel | null
}

/** The part of the model's manifest that a backend needs. */
export interface StreamModel {
  /** The ONNX file, already verified against its checksum */
  readonly bytes: Uint8Array
  readonly inputName: string
  readonly latentName: string
  readonly motifName: string
  /** What turns the motif output into scores. */
  readonly motifActivation: 'softmax' | 'none'
  readonly normalisation: Normalisation
}
