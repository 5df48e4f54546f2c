import type { Values } from './gather.ts'
import { factsOf, KEYS, namesOf, type Settings } from './keys.ts'

export interface Parsed {
  /** With the defaults of what is not set or wrong, so that contradictions in the rest come to light too. */
  readonly set: Settings
  /** Names whose values are wrong. */
  readonly wrong: ReadonlySet<string>
}

/** @param problems gets a sentence for each wrong value */
export function parse(values: Values, problems: string[]): Parsed {
  const wrong = new Set<string>()
  const set = Object.entries(KEYS).map(([key, facts]) => {
    const settings = namesOf(key, facts).flatMap(name => {
      if (!(name in values)) return []
      const { success, data } = facts.kind.schema.safeParse(values[name])
      if (success) return [data]
      wrong.add(name)
      problems.push(notValid(name, values[name], facts.kind.expected))
      return []
    })
    const unset = facts.default === undefined ? undefined : facts.kind.schema.parse(facts.default)
    return [key, settings.length > 0 ? settings[0] : unset]
  })
  return { set: Object.fromEntries(set) as Settings, wrong }
}

export function notValid(name: string, value: unknown, expected: string): string {
  const isSecret = factsOf(name)!.secret === true
  const found = isSecret ? 'the value' : typeof value === 'object' ? JSON.stringify(value) : value
  return `${name}: ${found} is not valid, expected ${expected}`
}
