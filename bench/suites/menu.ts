import { doors } from './doors.ts'
import { model } from './model.ts'
import type { Suite } from './suite.ts'

interface Item {
  readonly about: string
  /** With the default options. */
  readonly minutes: number
  readonly run: Suite
}

/** In the order in which `all` runs them. */
export const SUITES = {
  doors: {
    about: 'HTTP, WebSocket, bulk, Unix socket and OIP against a bare uWebSockets echo',
    minutes: 3,
    run: doors,
  },
  model: {
    about: 'ONNX Runtime behind HTTP against a bare loop; two workers against one',
    minutes: 2,
    run: model,
  },
} as const satisfies Record<string, Item>

export type SuiteName = keyof typeof SUITES
