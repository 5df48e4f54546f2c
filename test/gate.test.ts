import { setImmediate as nextTurn } from 'node:timers/promises'
import { expect, test } from 'vitest'
import { AnswerGate, CORKED_BYTES } from '../src/http/gate.ts'

test('while the port closes AnswerGate holds answers, and lets them out in order when it has closed', () => {
  const gate = new AnswerGate()
  const out: string[] = []
  gate.pass(1, () => out.push('before'))
  gate.shut()
  gate.pass(1, () => out.push('first'))
  gate.pass(CORKED_BYTES + 1, () => out.push('second'))
  expect(out).toEqual(['before'])
  gate.open()
  gate.pass(1, () => out.push('after'))
  expect(out).toEqual(['before', 'first', 'second', 'after'])
})

test('while a body is handed over AnswerGate keeps a long answer for the next turn, and a short one for nothing', async () => {
  const gate = new AnswerGate()
  const out: string[] = []
  gate.isReading = true
  gate.pass(CORKED_BYTES + 1, () => out.push('long'))
  gate.pass(CORKED_BYTES, () => out.push('short'))
  gate.isReading = false
  expect(out).toEqual(['short'])
  await nextTurn()
  expect(out).toEqual(['short', 'long'])
})
