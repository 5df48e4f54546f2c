import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { execPath } from 'node:process'
import { expect, onTestFinished, type TestContext, test } from 'vitest'
import { WebSocket } from 'ws'
import type { BareLoop } from '../bench/contenders/bare-loop.ts'
import { type Contender, startContender } from '../bench/contenders/contender.ts'
import { NOOP_RESULT, noopResult } from '../bench/contenders/noop.ts'
import { PeerMissing, type PeerOptions, startPeer } from '../bench/peers/peer.ts'
import { StreamClient } from '../client/index.ts'
import { CHANNELS } from '../src/core/window.ts'
import { PROJECT_FOLDER } from '../src/project.ts'
import { ask, JSON_TYPE, jsonOf, OCTET_STREAM, postWindow, resultOf } from './http-client.ts'
import { metric } from './load.ts'
import { GOLDEN, windowOf } from './windows.ts'

/** What the trained model gives for the golden window n. */
const goldenResult = (n: number) =>
  Float32Array.of(
    ...GOLDEN.latents.subarray(n * 64, (n + 1) * 64),
    ...GOLDEN.motifScores.subarray(n * 12, (n + 1) * 12),
  )
const BINARY = { 'Content-Type': OCTET_STREAM, Accept: OCTET_STREAM }

async function started(contender: Promise<Contender>): Promise<Contender> {
  const { stop, pid, ...rest } = await contender
  onTestFinished(async () => {
    await stop()
    expect(isAlive(pid)).toBe(false)
  })
  return { ...rest, pid, stop }
}

/** A process that is dead and that nobody has waited for yet is in state Z. */
function isAlive(pid: number): boolean {
  const stat = `/proc/${pid}/stat`
  return existsSync(stat) && !readFileSync(stat, 'utf8').includes(') Z ')
}

test.each(['naive', 'piscina', 'fastify'] as const)(
  '%s answers like the trained model, refuses what is no window, and leaves no process',
  async name => {
    const contender = await started(startContender(name, { backend: 'onnx' }))
    const answers = [await postWindow(contender, windowOf(3))]
    // Fastify is measured with JSON alone.
    if (name !== 'fastify') answers.push(await postWindow(contender, windowOf(3), BINARY))
    for (const answer of answers) {
      expect(answer.status).toBe(200)
      const furthest = resultOf(answer).map((value, at) => Math.abs(value - goldenResult(3)[at]!))
      expect(Math.max(...furthest)).toBeLessThan(1e-4)
    }
    const body = jsonOf(windowOf(3).subarray(CHANNELS))
    const headers = { 'Content-Type': JSON_TYPE }
    expect((await ask(contender, 'POST /infer', { headers, body })).status).toBe(400)
  },
)

test('the engine can be had with a backend that does nothing, and then answers with one value of the window', async () => {
  const engine = await started(startContender('engine', { backend: 'noop' }))
  expect(resultOf(await postWindow(engine, windowOf(3)))).toEqual(noopResult(windowOf(3)))
  expect(resultOf(await postWindow(engine, windowOf(4), BINARY))).toEqual(noopResult(windowOf(4)))
})

test('the engine can be had without its counts, and then answers the same', async () => {
  const uncounted = await started(startContender('uncounted', { backend: 'noop' }))
  expect(resultOf(await postWindow(uncounted, windowOf(3)))).toEqual(noopResult(windowOf(3)))
  expect((await ask(uncounted, 'POST /infer', { body: '{}' })).status).toBe(400)
  const stream = new StreamClient(`ws://127.0.0.1:${uncounted.port}/stream`, { webSocket: WebSocket })
  await stream.send(windowOf(3))
  await stream.close()
  for (const name of ['requests_total', 'errors_total', 'duration_seconds_count']) {
    expect(await metric(uncounted.port, `hailo_inference_${name}`), name).toBe(0)
  }
  expect(await metric(uncounted.port, 'hailo_stage_duration_seconds_count')).toBe(0)
  expect(await metric(uncounted.port, 'hailo_ws_frames_total')).toBe(0)
})

test('the echo answers HTTP and /stream with a reply of the right size, whatever it is sent', async () => {
  const echo = await started(startContender('echo', { reply: 'json' }))
  const answer = await ask(echo, 'POST /infer', { body: 'anything' })
  expect(Float32Array.of(...answer.json.latent, ...answer.json.motif_scores)).toEqual(NOOP_RESULT)

  const stream = new StreamClient(`ws://127.0.0.1:${echo.port}/stream`, { webSocket: WebSocket })
  const answers = await Promise.all(Array.from({ length: 64 }, (_, n) => stream.send(windowOf(n))))
  expect(answers.map(({ sequence }) => sequence)).toEqual(Array.from({ length: 64 }, (_, n) => n))
  expect(Float32Array.from(answers[63]!.motifScores)).toEqual(NOOP_RESULT.subarray(64))
  await stream.close()
})

test('a contender ends with the process that started it, even when that is killed', async () => {
  const driver = join(PROJECT_FOLDER, 'dist', 'bench', 'contenders', 'contender.js')
  const program = `import { startContender } from ${JSON.stringify(driver)}
    console.log((await startContender('echo', { reply: 'binary' })).pid)`
  const parent = spawn(execPath, ['--input-type=module', '--eval', program])
  onTestFinished(() => void parent.kill('SIGKILL'))
  const [pid] = await once(parent.stdout, 'data')
  expect(isAlive(Number(pid))).toBe(true)
  parent.kill('SIGKILL')
  await expect.poll(() => isAlive(Number(pid))).toBe(false)
})

test('a contender that cannot start says why', async () => {
  const started = startContender('echo', { reply: 'binary' }, { nodeOptions: ['--no-such-option'] })
  await expect(started).rejects.toThrow('bad option: --no-such-option')
})

test('the bare loop runs the model with every batch size', async () => {
  const program = join(PROJECT_FOLDER, 'dist', 'bench', 'contenders', 'bare-loop.js')
  const loop = spawn(execPath, [program, JSON.stringify({ ms: 1 })])
  onTestFinished(() => void loop.kill('SIGKILL'))
  const rows: BareLoop[] = JSON.parse(String((await once(loop.stdout, 'data'))[0]))
  expect(rows.map(({ batch }) => batch)).toEqual([1, 4, 8, 16, 32, 64])
  expect(rows.filter(({ windowsPerSecond }) => !(windowsPerSecond > 0))).toEqual([])
})

test('the Python sidecar answers a window, refuses what is none, and leaves no process', async context => {
  const peer = await peerOr(context, { backend: 'noop' })
  expect(resultOf(await postWindow(peer, windowOf(0)))).toEqual(noopResult(windowOf(0)))
  expect((await postWindow(peer, windowOf(0).subarray(CHANNELS))).status).toBe(422)
  expect((await ask(peer, 'GET /healthz')).json).toEqual({ ok: true, backend: 'noop' })
})

test('a Python without FastAPI is told in a sentence, with what installs it', async () => {
  const bare = startPeer({ python: '/usr/bin/env python3 -S -I' })
  await expect(bare).rejects.toThrow(PeerMissing)
  await expect(bare).rejects.toThrow(/no module|there is no/)
})

/** Skips the test where the peer is not installed. */
async function peerOr(context: TestContext, options: PeerOptions): Promise<Contender> {
  try {
    return await started(startPeer(options))
  } catch (error) {
    if (error instanceof PeerMissing) return context.skip(error.message)
    throw error
  }
}
