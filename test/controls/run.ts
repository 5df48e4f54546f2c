import { parseArgs } from 'node:util'
import { CONTROLS } from './controls.ts'
import { ThrowAwayCopy } from './throw-away-copy.ts'

// npm run controls [-- NAME …]: switches one protection after the other off, in a copy of the project, and runs its test.
// Exit code: 0 every test has failed, as it must; 1 one has not; 2 there is no such control.

const { positionals } = parseArgs({ allowPositionals: true })
const unknown = positionals.filter(name => !CONTROLS.some(control => control.name === name))
if (unknown.length > 0) {
  console.error(
    `There is no control ${unknown.join(', ')}: expected ${CONTROLS.map(({ name }) => name).join(', ')}`,
  )
  process.exit(2)
}
const chosen = CONTROLS.filter(({ name }) => positionals.length === 0 || positionals.includes(name))
const copy = new ThrowAwayCopy()
process.once('exit', () => copy.remove())
for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => process.exit(1))

const width = Math.max(...chosen.map(({ name }) => name.length))
let red = 0
for (const control of chosen) {
  const startedMs = performance.now()
  const { result, detail } = await copy.run(control)
  const seconds = ((performance.now() - startedMs) / 1000).toFixed(1).padStart(5)
  console.log(`${control.name.padEnd(width)}  ${result.padEnd(6)}  ${seconds} s  ${detail.slice(0, 160)}`)
  if (result === 'red') red++
}
console.log(`\n${red} of ${chosen.length} tests fail without what they protect`)
process.exitCode = red === chosen.length ? 0 : 1
