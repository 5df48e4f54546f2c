import { readFileSync } from 'node:fs'
import { expect, onTestFinished, test } from 'vitest'
import { CONTROLS } from './controls/controls.ts'
import { ThrowAwayCopy } from './controls/throw-away-copy.ts'

test('every control finds its text once, and its test exists', () => {
  expect(CONTROLS.length).toBeGreaterThanOrEqual(40)
  expect(new Set(CONTROLS.map(({ name }) => name)).size).toBe(CONTROLS.length)
  for (const { name, file, find, test } of CONTROLS) {
    expect(readFileSync(file, 'utf8').split(find).length - 1, `${name} in ${file}`).toBe(1)
    const source = readFileSync(test.file, 'utf8')
    const isThere = ["'", '"', '`'].some(quote => source.includes(quote + test.title + quote))
    expect(isThere, `${name}: ${test.title}`).toBe(true)
  }
})

test('without its protection a test is red', async () => {
  const copy = new ThrowAwayCopy()
  onTestFinished(() => copy.remove())
  expect(await copy.run(CONTROLS.find(({ name }) => name === 'epochs')!)).toMatchObject({
    result: 'red',
    detail: expect.stringMatching(/^AssertionError/),
  })
}, 60_000)
