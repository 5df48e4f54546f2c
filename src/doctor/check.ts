import type { Config, HailoConfig } from '../config.ts'
import type { Facts } from './facts.ts'

/** 'warn': it can serve, but not as well as it might. 'skip': not needed here, or not to be told before another check passes. */
export type Status = 'ok' | 'warn' | 'fail' | 'skip'

export interface Finding {
  readonly status: Status
  /** What was found, or why it was not looked for. One line, or one for each problem. */
  readonly found: string
  /** What to do about it. Null when there is nothing to do. */
  readonly remedy: string | null
}

/** One thing that has to be right. Changes nothing on the machine. */
export interface Check {
  readonly name: string
  run(facts: Facts): Finding | Promise<Finding>
}

export const ok = (found: string): Finding => ({ status: 'ok', found, remedy: null })
export const skip = (found: string): Finding => ({ status: 'skip', found, remedy: null })
export const warn = (found: string, remedy: string): Finding => ({ status: 'warn', found, remedy })
export const fail = (found: string, remedy: string): Finding => ({ status: 'fail', found, remedy })

/** A failure from the message of one of our errors, which ends with the sentence that tells what to do. */
export function failInWords(message: string, otherwise: string): Finding {
  const [, found, remedy] = /^(.*)\. ([A-Z].*)$/s.exec(message) ?? []
  return found === undefined ? fail(message, otherwise) : fail(found, remedy!)
}

/** A check of something that the configuration names. */
export function ofConfig(
  name: string,
  run: (facts: Facts, config: Config) => Finding | Promise<Finding>,
): Check {
  return {
    name,
    run: facts => (facts.config === null ? skip('the configuration is not valid') : run(facts, facts.config)),
  }
}

/** A check of something that only a device needs. */
export function ofHailo(
  name: string,
  run: (facts: Facts, hailo: HailoConfig) => Finding | Promise<Finding>,
): Check {
  return ofConfig(name, (facts, { hailo, mode }) =>
    hailo === null ? skip(`not needed in ${mode} mode`) : run(facts, hailo),
  )
}
