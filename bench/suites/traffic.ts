import { encodeFrame, STREAM_VERSION } from '../../src/http/frame.ts'
import type { Address, LoadPlan, LoadRequest } from '../load/load.ts'
import {
  expectingSame,
  expectingSameStream,
  frameOf,
  inferRequest,
  type RequestOptions,
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

type Encoding = RequestOptions['encoding']

/** `POST /infer`, a window each. */
export function http(encoding: Encoding): Traffic {
  return requests(
    `HTTP ${encoding}`,
    WINDOWS.map(window => inferRequest([window], { encoding })),
  )
}

/** `POST /infer` with many windows. */
export function bulk(encoding: Encoding, count: number): Traffic {
  const windows = Array.from({ length: count }, (_, index) => WINDOWS[index % WINDOWS.length]!)
  return requests(`bulk ${encoding}, ${count} windows a request`, [inferRequest(windows, { encoding })])
}

/** The Open Inference Protocol. */
export function oip(encoding: Encoding): Traffic {
  return requests(
    `OIP ${encoding}`,
    WINDOWS.map(window => v2Request([window], { encoding })),
  )
}

export function webSocket(inFlight: number): Traffic {
  return {
    name: `WebSocket, ${inFlight} in flight`,
    prepare: async target => ({
      protocol: { ...STREAM, hello: HELLO },
      inFlight,
      requests: await expectingSameStream(target, WINDOWS),
    }),
  }
}

/** The generator counts windows from 1. */
const HELLO = frameOf(encodeFrame('hello', { version: STREAM_VERSION, mode: 0, hop: 0, first: 1 }))

function requests(name: string, sent: readonly LoadRequest[]): Traffic {
  return {
    name,
    prepare: async target => ({ protocol: { kind: 'http' }, requests: await expectingSame(target, sent) }),
  }
}
