import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { RECORDING_FOLDER } from '../src/project.ts'

const WINDOW_SAMPLES = 100
export const CHANNELS = 9

/** One collar's continuous recording. Time jumps from one segment to the next, so no window spans two. */
export interface Segment {
  /** Index of the first sample in the recording. */
  start: number
  /** Samples in the segment. */
  length: number
  /** Subject and repetition, `s02_01`: the phone and the watch recorded the same execution. */
  execution: string
  device: 'phone' | 'watch'
}

interface Recording {
  /** float32[samples][9]: m/s² ×3, rad/s ×3, µT ×3. */
  samples: Float32Array
  /** One index into `motifs` per sample. */
  labels: Uint8Array
  /** Names such as `phone_walking`; the order is that of the motif scores. */
  motifs: string[]
  segments: Segment[]
  sampleRateHz: number
}

export interface RecordedWindow {
  segment: Segment
  /** float32[100][9], a view into the recording: do not write. */
  input: Float32Array
  /** The true motif: the label that most of its samples carry, the smallest index in a tie. */
  motif: number
}

/** Cuts windows of 100 samples, one every `hop` samples of each segment. A tail shorter than a window is left out. */
export function cutWindows(recording: Recording, hop: number): RecordedWindow[] {
  const { samples, labels, motifs } = recording
  return recording.segments.flatMap(segment => {
    const windows: RecordedWindow[] = []
    const last = segment.start + segment.length - WINDOW_SAMPLES
    for (let start = segment.start; start <= last; start += hop) {
      const end = start + WINDOW_SAMPLES
      windows.push({
        segment,
        input: samples.subarray(start * CHANNELS, end * CHANNELS),
        motif: majority(labels.subarray(start, end), motifs.length),
      })
    }
    return windows
  })
}

/** Reads the recording that ships with the project. Blocks; throws when its files do not fit each other. */
export function loadRecording(folder = RECORDING_FOLDER): Recording {
  const about = JSON.parse(readFileSync(join(folder, 'replay.json'), 'utf8'))
  // Copied: a Float32Array may only view a multiple of 4 bytes, and a Buffer may start anywhere. The files are
  // little-endian, as is every machine that Node.js still supports but one (s390x).
  const samples = new Float32Array(new Uint8Array(readFileSync(join(folder, 'replay.f32'))).buffer)
  const labels = new Uint8Array(readFileSync(join(folder, 'replay_labels.u8')))
  if (samples.length !== about.samples * CHANNELS || labels.length !== about.samples)
    throw new Error(
      `Cannot load recording: ${folder} has ${samples.length / CHANNELS} samples and ${labels.length} labels, ` +
        `expected ${about.samples} of each`,
    )
  return {
    samples,
    labels,
    motifs: about.labels,
    segments: about.segments,
    sampleRateHz: about.sample_rate_hz,
  }
}

function majority(labels: Uint8Array, motifCount: number): number {
  const counts = new Array<number>(motifCount).fill(0)
  for (const label of labels) counts[label]!++
  return counts.indexOf(Math.max(...counts)) // indexOf finds the smallest index in a tie
}
