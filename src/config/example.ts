import { GROUPS, type KeyFacts } from './keys.ts'

/** A variable that something beside the engine reads from the same file. */
export interface Variable {
  readonly name: string
  /** Empty: none. */
  readonly default: string
  /** In one line. */
  readonly what: string
}

/** What shells, Compose and systemd all take as it is. */
const PLAIN = /^[\w./:@%+,-]*$/
/** Between single quotes all of them take the rest as it is. */
const QUOTABLE = /^[^'\\\n]*$/

/**
 * Every key, commented out, with its default: for Compose as `.env`, for systemd as an EnvironmentFile.
 * @param variables of Compose files, which come first
 * @throws Error when one has a default that Compose and systemd would read differently
 */
export function exampleOfKeys(variables: readonly Variable[] = []): string {
  const compose = ['Compose', variables.map(variableLines)] as const
  const groups = Object.entries(GROUPS).map(
    ([name, keys]) => [name, Object.entries(keys).map(keyLines)] as const,
  )
  return `# Configuration of hailo-inference. Written by \`npm run docs:env\`; docs/env.md tells more of each key.
#
# Compose reads it as .env beside compose.yaml, systemd as an EnvironmentFile. Every line that is commented out shows the
# default, and nothing must be set. An empty value counts as unset. What has more than letters, digits and ./:@%+,-_ stands
# between 'single quotes'. A file with secrets in it is for its owner alone: chmod 600.

${[...(variables.length > 0 ? [compose] : []), ...groups]
  .map(([name, entries]) => `## ${name}\n\n${entries.join('\n\n')}\n`)
  .join('\n')}`
}

function variableLines({ name, what, default: value }: Variable): string {
  return `# ${what}\n#${name}=${quoted(name, value)}`
}

function keyLines([key, facts]: [string, KeyFacts]): string {
  const { what, synonyms = [], required, secret, kind } = facts
  const notes = [
    kind.wrong !== null && capital(kind.expected),
    required && `Required ${required.when}`,
    facts.default === undefined && facts.unset && `Unset: ${facts.unset}`,
    synonyms.length > 0 && `Also ${synonyms.join(', ')}`,
    secret && 'SECRET',
  ]
  return `# ${[capital(what), ...notes].filter(Boolean).join('. ')}\n#${key}=${quoted(key, facts.default ?? '')}`
}

function capital(words: string): string {
  return words.replace(/^[a-z]/, letter => letter.toUpperCase())
}

function quoted(name: string, value: string): string {
  if (PLAIN.test(value)) return value
  if (QUOTABLE.test(value)) return `'${value}'`
  throw new Error(`Cannot write ${name}=${value} so that Compose and systemd both read it`)
}
