/** Runs one probe and answers on descriptor 3: what it loads may print what it likes to the others. */
import '../no-telemetry.ts'
import { readFileSync, writeFileSync } from 'node:fs'
import { type Answer, PROBES } from './probes.ts'

const ANSWER = 3

const [name] = process.argv.slice(2)
const probe: (input: never) => Promise<unknown> = PROBES[name as keyof typeof PROBES]
let answer: Answer<unknown>
try {
  answer = { value: await probe(JSON.parse(readFileSync(0, 'utf8')) as never) }
} catch (error) {
  answer = { error: error instanceof Error ? error.message : String(error) }
}
writeFileSync(ANSWER, JSON.stringify(answer))
// Threads of native code need not end by themselves.
process.exit()
