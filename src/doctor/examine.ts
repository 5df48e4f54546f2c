import type { Check, Finding } from './check.ts'
import { fail } from './check.ts'
import { DEVICE_CHECKS } from './device.ts'
import type { Facts } from './facts.ts'
import { MACHINE_CHECKS } from './machine.ts'
import { MODEL_CHECKS } from './model.ts'
import { SOFTWARE_CHECKS } from './software.ts'

export interface Result extends Finding {
  readonly check: string
}

export const CHECKS: readonly Check[] = [
  ...SOFTWARE_CHECKS,
  ...MODEL_CHECKS,
  ...DEVICE_CHECKS,
  ...MACHINE_CHECKS,
]

/** Longer than a probe may take: what hangs is told by its own check. */
const CHECK_TIMEOUT_MS = 5000

/** Runs all checks at once, each in its own time: one that throws or hangs is a failure and hides no other. */
export function examine(facts: Facts, checks = CHECKS, timeoutMs = CHECK_TIMEOUT_MS): Promise<Result[]> {
  return Promise.all(
    checks.map(async check => ({ check: check.name, ...(await findingOf(check, facts, timeoutMs)) })),
  )
}

async function findingOf(check: Check, facts: Facts, timeoutMs: number): Promise<Finding> {
  let timer: NodeJS.Timeout | undefined
  const late = new Promise<Finding>(resolve => {
    const found = `no result within ${timeoutMs / 1000} s`
    timer = setTimeout(() => resolve(fail(found, 'Try again when the machine is less busy')), timeoutMs)
  })
  try {
    return await Promise.race([check.run(facts), late])
  } catch (error) {
    const found = `the check itself failed: ${error instanceof Error ? error.message : error}`
    return fail(found, 'This is a bug of the doctor: please report it with this line')
  } finally {
    clearTimeout(timer)
  }
}
