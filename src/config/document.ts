import { ConfigError, loadConfig } from '../config.ts'
import { CIRCUMSTANCES, GROUPS, KEYS, type KeyFacts, namesOf } from './keys.ts'

/** Newest first. What the page says of keys changes with the table; this tells what changed in how it says it. */
const CHANGES: readonly (readonly [day: string, what: string])[] = [
  ['2026-11-22', 'Written from the table of keys, with ranges, defaults and what wrong values do.'],
  ['2026-11-21', 'First version.'],
]

/** Combinations of which one must go. */
const CONTRADICTIONS: readonly Readonly<Record<string, string>>[] = [
  { USE_REAL_MODEL: 'false', INFER_MODE: 'onnx' },
  { FALLBACK: 'stub', INFER_MODE: 'onnx' },
  { DEADLINE_MS: '6000' },
]

/** docs/env.md. Its sentences about wrong values are those of `loadConfig`. */
export function documentOfKeys(): string {
  const required = Object.values(KEYS).flatMap(({ required }) => (required ? [required.missedBy] : []))
  return `---
status: generated
project: hailo-inference
component: configuration
updated: ${CHANGES[0]![0]}
---

[hailo-inference](../README.md) · [Documentation](README.md) · **Configuration**

# Configuration

All of it is read once, at the start; the model and the certificate that it names are read again when they change, and
on SIGHUP: [architecture.md](architecture.md#another-model). Nothing must be set: without any key the shipped model is
served on the CPU. An empty value counts as unset. The same keys can stand in a YAML file named by \`CONFIG_PATH\`; the
environment wins. [compose/.env.example](../compose/.env.example) has all of them to begin with.

This page and that file are written by \`npm run docs:env\` from \`src/config/keys.ts\`.

## Wrong values

A value that is not valid stops the start with [exit code 78](exit-codes.md), before anything listens. All that is wrong
is told at once on stderr, one sentence each; below the keys of each group stands what a wrong value of each prints. Where
several names stand together, the first that is set wins. Secrets are never told. \`npm run doctor\` checks the same without
a start.

What must be set and is not, and what contradicts itself, stops the start too:

${sentences([...required, ...CONTRADICTIONS])}${Object.entries(GROUPS)
  .map(([name, keys]) => section(name, keys))
  .join('')}
## Values that turn out wrong later

Of the right kind, and wrong where the engine runs: a path at which there is nothing, a model that is another.

| key | mistake | noticed | exit code | words |
|---|---|---|---|---|
${Object.entries<KeyFacts>(KEYS)
  .flatMap(([key, { later }]) => {
    if (!later) return []
    return [row(`\`${key}\``, later.mistake, later.noticed, `${later.exit ?? 'none'}`, `\`${later.words}\``)]
  })
  .join('\n')}

## Change log

${CHANGES.map(([day, what]) => `- ${day}: ${what}`).join('\n')}
`
}

function section(name: string, keys: Readonly<Record<string, KeyFacts>>): string {
  const wrong = Object.entries(keys).flatMap(([key, { kind }]) =>
    // Keys of OpenTelemetry are checked beside an endpoint alone.
    kind.wrong === null ? [] : [{ OTEL_EXPORTER_OTLP_ENDPOINT: 'http://127.0.0.1:4318', [key]: kind.wrong }],
  )
  return `
## ${name}

| key | required | expected | default | what it does |
|---|---|---|---|---|
${Object.entries(keys)
  .map(([key, facts]) =>
    row(
      namesOf(key, facts)
        .map(name => `\`${name}\``)
        .join(', '),
      facts.required?.when ?? 'no',
      facts.kind.expected,
      facts.default === undefined ? (facts.unset ?? '–') : `\`${facts.default}\``,
      inFull(facts),
    ),
  )
  .join('\n')}

${sentences(wrong)}`
}

function inFull({ what, more, heeded, secret }: KeyFacts): string {
  const effect = heeded && `No effect ${CIRCUMSTANCES[heeded]}`
  return [what, more, secret && 'Secret: never told', effect].filter(Boolean).join('. ')
}

function row(...cells: readonly string[]): string {
  return `| ${cells.map(cell => cell.replaceAll('|', '\\|')).join(' | ')} |`
}

/** What is printed for each of these environments. */
function sentences(environments: readonly Readonly<Record<string, string>>[]): string {
  return `\`\`\`text\n${environments.flatMap(problemsOf).join('\n')}\n\`\`\`\n`
}

function problemsOf(env: Readonly<Record<string, string>>): string[] {
  try {
    loadConfig(env)
  } catch (error) {
    if (error instanceof ConfigError) return error.problems
    throw error
  }
  throw new Error(`Cannot show what is wrong with ${JSON.stringify(env)}: nothing is`)
}
