import { capacity } from './capacity.ts'
import { contenders } from './contenders.ts'
import { device } from './device.ts'
import { doors } from './doors.ts'
import { hop } from './hop.ts'
import { instrumentation } from './instrumentation.ts'
import { memory } from './memory.ts'
import { micro } from './micro.ts'
import { model } from './model.ts'
import { overload } from './overload.ts'
import { peers } from './peers.ts'
import { server } from './server.ts'
import { start } from './start.ts'
import type { Suite } from './suite.ts'
import { sweep } from './sweep.ts'
import { tenfold } from './tenfold.ts'

interface Item {
  readonly run: Suite
  readonly about: string
  /** With the default options. */
  readonly minutes: number
  /** Unless it is said how many. */
  readonly runs: number
  /** Unless it is said how many; 64 otherwise. */
  readonly connections?: number
  /** Whether `all` leaves it out. */
  readonly isApart?: boolean
}

/** Enough that a server which is late does not slow down those who send at a rate. */
const OPEN_LOOP = 256

const SUITES = {
  doors: {
    run: doors,
    about: 'HTTP, WebSocket, bulk, Unix socket and OIP, against a bare uWebSockets echo',
    minutes: 4,
    runs: 5,
  },
  model: {
    run: model,
    about: 'ONNX Runtime behind HTTP, against a bare loop; two workers against one',
    minutes: 2,
    runs: 5,
  },
  hop: { run: hop, about: 'between threads: the ring, MessagePort, Piscina', minutes: 1, runs: 5 },
  micro: { run: micro, about: 'the parts of a window’s way, each alone', minutes: 1, runs: 3 },
  capacity: {
    run: capacity,
    about: 'the highest rate at which p99 stays inside the deadline',
    minutes: 2,
    runs: 3,
    connections: OPEN_LOOP,
  },
  overload: {
    run: overload,
    about: '2, 4 and 10 times of that: goodput, refusals',
    minutes: 3,
    runs: 3,
    connections: OPEN_LOOP,
  },
  sweep: {
    run: sweep,
    about: 'latency and processor time per window against rate',
    minutes: 2,
    runs: 3,
    connections: OPEN_LOOP,
  },
  device: {
    run: device,
    about: 'the software network against ONNX Runtime; what the engine adds to a modelled device',
    minutes: 1.5,
    runs: 3,
  },
  instrumentation: {
    run: instrumentation,
    about: 'what metrics, log, telemetry and traces take; how long a scrape is',
    minutes: 4,
    runs: 5,
  },
  contenders: {
    run: contenders,
    about: 'the naive design, Piscina per window, Fastify',
    minutes: 3,
    runs: 5,
  },
  start: { run: start, about: 'start to ready, and the first burst', minutes: 0.5, runs: 5 },
  peers: { run: peers, about: 'FastAPI in Python', minutes: 2, runs: 3 },
  tenfold: {
    run: tenfold,
    about: '10 times what a worker of a known service time bears; for figures --duration 60',
    minutes: 0.1,
    runs: 1,
    connections: OPEN_LOOP,
    isApart: true,
  },
  memory: {
    run: memory,
    about: 'resident memory at full load',
    minutes: 30,
    runs: 1,
    isApart: true,
  },
  server: {
    run: server,
    about: 'any one server, loaded as the options say',
    minutes: 0.5,
    runs: 3,
    isApart: true,
  },
} as const satisfies Record<string, Item>

export type SuiteName = keyof typeof SUITES
/** In the order in which `all` runs them. */
export const MENU: Readonly<Record<SuiteName, Item>> = SUITES
