import { Ring } from '../../../src/core/ring.ts'
import { WINDOW_VALUES } from '../../../src/core/window.ts'
import { BINARY } from '../../../src/http/binary-frames.ts'
import { decodeHead, encodeFrame } from '../../../src/http/frame.ts'
import { NOOP_RESULT } from '../../contenders/noop.ts'
import { repeated } from '../case.ts'

const slot = Ring.create({ capacity: 2, motifCount: 12 }).nextSlot!
slot.prepare(0, 0)
slot.take(0)
slot.output.set(NOOP_RESULT)
slot.finish('ok', 'stub', 0)
const MODEL = { sha256: 'stub', start: 0 }
const payload = new Uint8Array(new Float32Array(WINDOW_VALUES).buffer)
const window = encodeFrame('window', { sequence: 7, deadlineMs: 40 }, payload)

export const FRAME_CASES = [
  repeated('frame in: head of a window', 100, () => void decodeHead('window', window)),
  repeated('frame in: a window into its slot', 100, () => {
    const frame = BINARY.read(window)
    if (frame.type !== 'window' || frame.fill(slot) !== null) throw new Error(`read ${frame.type}`)
  }),
  repeated('frame out: a result from its slot', 100, index => void BINARY.result(index, slot, MODEL, null)),
]
