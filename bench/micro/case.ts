/** One thing to measure, on one thread. */
export interface Case {
  readonly name: string
  /** Done so often in one call: a clock costs more than many of these things. */
  readonly opsPerCall: number
  /** A promise, if any, is waited for. */
  call(): unknown
}

/** @param once does it once; `index` counts from 0 to opsPerCall - 1 */
export function repeated(name: string, opsPerCall: number, once: (index: number) => void): Case {
  return {
    name,
    opsPerCall,
    call() {
      for (let index = 0; index < opsPerCall; index++) once(index)
    },
  }
}
