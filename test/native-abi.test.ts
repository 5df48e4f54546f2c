import { readFileSync } from 'node:fs'
import { expect, test } from 'vitest'
import { buildProgram, COMPILER, runProgram, SHIM_SOURCES } from './native.ts'

const RELEASES = ['v4.17.1', 'v4.18.0', 'v4.19.0', 'v4.20.0', 'v4.21.0', 'v4.22.0', 'v4.23.0']
const BEFORE_420 = ['v4.17.1', 'v4.18.0', 'v4.19.0']

/** Sizes and offsets in bytes of every release, measured with HailoRT's own headers: name → release → bytes. */
const MEASURED = readTable()

function readTable(): Map<string, Map<string, number>> {
  const [head, ...rows] = readFileSync('test/fixtures/hailort/abi-table.tsv', 'utf8').trim().split('\n')
  const releases = head!.split('\t').slice(1)
  return new Map(
    rows.map(row => {
      const [item, ...bytes] = row.split('\t')
      const name = item!.replace(/^(sizeof|offset) /, '')
      return [name, new Map(releases.map((release, index) => [release, Number(bytes[index])]))]
    }),
  )
}

/** What native/abi.h asserts at compile time. */
const ASSERTED = [
  ...readFileSync('native/abi.h', 'utf8').matchAll(/^ABI_(?:SIZE|OFFSET)\("([^"]+)",[^;]*?(\d+)\);/gms),
].map(([, name, bytes]) => ({ name: name!, bytes: Number(bytes) }))

test('native/abi.h asserts the sizes and offsets of every supported release, in its two layouts', () => {
  expect(ASSERTED.length).toBeGreaterThan(75)
  const differing = ASSERTED.flatMap(({ name, bytes }) => {
    const isOld = name.endsWith(' before 4.20')
    const measured = MEASURED.get(name.replace(/ before 4\.20$/, ''))
    if (measured === undefined) return [`${name} is in no table`]
    const hasOldTwin = ASSERTED.some(other => other.name === `${name} before 4.20`)
    const releases = isOld
      ? BEFORE_420
      : RELEASES.filter(release => !hasOldTwin || !BEFORE_420.includes(release))
    return releases
      .filter(release => measured.get(release) !== bytes)
      .map(release => `${name}: ${bytes} asserted, ${measured.get(release)} in ${release}`)
  })
  expect(differing).toEqual([])
})

test('whatever changed between the supported releases in the infos that we read is asserted in both layouts', () => {
  const changed = [...MEASURED.keys()].filter(
    name =>
      /^hailo_v?stream_info_t/.test(name) &&
      new Set(RELEASES.map(release => MEASURED.get(name)!.get(release))).size > 1,
  )
  expect(changed.length).toBeGreaterThan(8)
  const inOneLayout = changed.filter(name => !ASSERTED.some(other => other.name === `${name} before 4.20`))
  expect(inOneLayout).toEqual([])
})

test.skipIf(COMPILER === null)(
  'the fused transform gives the very bytes and floats that HailoRT 4.18 and 4.23 gave',
  { timeout: 60_000 },
  async () => {
    const program = await buildProgram('transform_vectors', { sources: SHIM_SOURCES })
    const { stdout, code } = await runProgram(program, [])
    expect(code).toBe(0)
    const ours = stdout.trimEnd().split('\n')
    expect(ours).toHaveLength(23)
    for (const release of ['4.18.0', '4.23.0']) {
      const recorded = readFileSync(`test/fixtures/hailort/transform-vectors-${release}.txt`, 'utf8')
      expect(ours).toEqual(recorded.split('\n').filter(line => /^ {2}(x=|layout|0:)/.test(line)))
    }
  },
)
