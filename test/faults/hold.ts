import { existsSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'

/** A test that does not come to release it has failed. */
const LONGEST_HOLD_MS = 30_000
const LOOK_INTERVAL_MS = 1

/** Two files of a folder, by which a test and a worker in another process wait for each other. */
export class Hold {
  /** There while the test wants it: made by the test. */
  readonly #wanted: string
  /** There while a worker is blocked: made by the worker. */
  readonly #held: string

  constructor(folder: string) {
    this.#wanted = join(folder, 'wanted')
    this.#held = join(folder, 'held')
  }

  get held(): boolean {
    return existsSync(this.#held)
  }

  want(): void {
    writeFileSync(this.#wanted, '')
  }

  release(): void {
    rmSync(this.#wanted, { force: true })
  }

  /**
   * Blocks this thread until the test releases it, which it has already where nothing is wanted.
   * @param beat told again and again: however slow the test, the worker is not to be taken for one that hangs
   */
  block(beat: () => void): void {
    if (!existsSync(this.#wanted)) return
    writeFileSync(this.#held, '')
    const untilMs = performance.now() + LONGEST_HOLD_MS
    while (existsSync(this.#wanted) && performance.now() < untilMs) {
      beat()
      block(LOOK_INTERVAL_MS)
    }
    rmSync(this.#held)
  }
}

/** Blocks this thread. */
export function block(milliseconds: number): void {
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, milliseconds)
}
