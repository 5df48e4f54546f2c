export type Timer = ReturnType<typeof setTimeout>

/** What is longer `setTimeout()` takes for 1 ms. */
const LONGEST_MS = 2 ** 31 - 1

/** `setTimeout()` for any time: what is more than 24 days away does not come. */
export function startTimer(action: () => void, delayMs: number): Timer | undefined {
  return delayMs > LONGEST_MS ? undefined : setTimeout(action, delayMs)
}
