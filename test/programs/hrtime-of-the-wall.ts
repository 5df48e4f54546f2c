import process from 'node:process'

// Preloaded into a server: its clock of all threads is the wall clock from then on, as if clock.ts read Date.now().
const hrtime = (): [number, number] => {
  const ms = Date.now()
  return [Math.floor(ms / 1000), (ms % 1000) * 1e6]
}
process.hrtime = Object.assign(hrtime, { bigint: process.hrtime.bigint })
