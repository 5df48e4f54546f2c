import { encodeFrame, STREAM_VERSION } from '../../src/http/frame.ts'
import type { Address, LoadPlan, LoadRequest } from '../load/load.ts'
import {
  expectingSame,
  expectingSameStream,
  frameOf,
  inferRequest,
  STREAM,
  v2Request,
} from '../load/requests.ts'
import { WINDOWS } from './windows.ts'

/** What is sent to a server, and how. */
export interface Traffic {
  readonly name: string
  /** Asks the server, so that the generator knows right answers. */
  readonly prepare: (target: Address) => Promise<Pick<LoadPlan, 'protocol' | 'requests' | 'inFlight'>>
}

export const BULK_WINDOWS = 64
export const STREAM_WINDOWS = 32

/** A window a request; `bulk` has `BULK_WINDOWS`, and a WebSocket `STREAM_WINDOWS` in flight. */
export const TRAFFIC = {
  json: requests(
    'HTTP JSON',
    WINDOWS.map(window => inferRequest([window], { encoding: 'json' })),
  ),
  'json-float64': requests(
    'HTTP JSON, float64 digits',
    WINDOWS.map(window => inferRequest([window], { encoding: 'json', digits: 'float64' })),
  ),
  binary: requests(
    'HTTP binary',
    WINDOWS.map(window => inferRequest([window], { encoding: 'binary' })),
  ),
  bulk: requests(`bulk binary, ${BULK_WINDOWS} windows a request`, [
    inferRequest(
      Array.from({ length: BULK_WINDOWS }, (_, index) => WINDOWS[index % WINDOWS.length]!),
      { encoding: 'binary' },
    ),
  ]),
  oip: requests(
    'OIP binary',
    WINDOWS.map(window => v2Request([window], { encoding: 'binary' })),
  ),
  'oip-json': requests(
    'OIP JSON',
    WINDOWS.map(window => v2Request([window], { encoding: 'json' })),
  ),
  websocket: {
    name: `WebSocket binary, ${STREAM_WINDOWS} in flight`,
    prepare: async target => ({
      protocol: { ...STREAM, hello: FROM_ONE },
      inFlight: STREAM_WINDOWS,
      requests: await expectingSameStream(target, WINDOWS),
    }),
  },
} as const satisfies Record<string, Traffic>

export type TrafficName = keyof typeof TRAFFIC
/** How much of each, in requests. A WebSocket goes with nothing else. */
export type Mix = Readonly<Partial<Record<TrafficName, number>>>

export function mixed(mix: Mix): Traffic {
  const parts = Object.entries(mix) as [TrafficName, number][]
  if (parts.length === 1) return TRAFFIC[parts[0]![0]]
  return {
    name: parts.map(([name, weight]) => `${weight} × ${TRAFFIC[name].name}`).join(' + '),
    prepare: async target => ({
      protocol: { kind: 'http' },
      requests: await Promise.all(
        parts.map(async ([name, weight]) => {
          const { requests } = await TRAFFIC[name].prepare(target)
          return requests.map(request => ({
            ...request,
            weight: (weight * WINDOWS.length) / requests.length,
          }))
        }),
      ).then(requests => requests.flat()),
    }),
  }
}

/** The generator's first window. */
const FROM_ONE = frameOf(encodeFrame('hello', { version: STREAM_VERSION, mode: 0, hop: 0, first: 1 }))

export function requests(name: string, sent: readonly LoadRequest[]): Traffic {
  const bytes = sent.reduce((sum, { bytes }) => sum + bytes.length, 0) / sent.length
  return {
    name: `${name}, ${(bytes / 1000).toFixed(1)} kB`,
    prepare: async target => ({ protocol: { kind: 'http' }, requests: await expectingSame(target, sent) }),
  }
}
