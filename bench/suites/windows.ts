import { cutWindows, loadRecording } from '../recording.ts'

const COUNT = 16

/** What is sent: float32[100][9] each, of a person who walks about, a second apart. No two are the same. */
export const WINDOWS: readonly Float32Array[] = cutWindows(loadRecording(), 100)
  .slice(0, COUNT)
  .map(({ input }) => input)
