import { readFileSync } from 'node:fs'
import { expect, onTestFinished, test } from 'vitest'
import { CONTROLS } from './controls/controls.ts'
import { ThrowAwayCopy } from './controls/throw-away-copy.ts'

test('every control finds its text once, and its test exists', () => {
  expect(CONTROLS.length).toBeGreaterThanOrEqual(40)
  expect(new Set(CONTROLS.map(({ name }) => name)).size).toBe(CONTROLS.length)
  const misses = CONTROLS.flatMap(({ name, file, find, test }) => {
    const occurs = readFileSync(file, 'utf8').split(find).length - 1
    const source = readFileSync(test.file, 'utf8')
    const isThere = ["'", '"', '`'].some(quote => source.includes(quote + test.title + quote))
    return [
      ...(occurs === 1 ? [] : [`${name}: ${file} has its text ${occurs} times`]),
      ...(isThere ? [] : [`${name}: ${test.file} has no test "${test.title}"`]),
    ]
  })
  expect(misses).toEqual([])
})

test('without its protection a test is red', async () => {
  const copy = new ThrowAwayCopy()
  onTestFinished(() => copy.remove())
  expect(await copy.run(CONTROLS.find(({ name }) => name === 'epochs')!)).toMatchObject({
    result: 'red',
    detail: expect.stringMatching(/^AssertionError/),
  })
}, 60_000)
