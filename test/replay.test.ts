import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { createServer, type IncomingHttpHeaders } from 'node:http'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import { buffer, text } from 'node:stream/consumers'
import { setTimeout } from 'node:timers/promises'
import { expect, onTestFinished, test } from 'vitest'
import { cutWindows, loadRecording } from '../bench/recording.ts'
import { RECORDING_FOLDER } from '../src/project.ts'

const SAMPLE_BYTES = 9 * 4

// Cut from the files in the plainest way, so that a fault in recording.ts cannot hide behind itself.
const bytes = readFileSync(join(RECORDING_FOLDER, 'replay.f32'))
const { segments } = JSON.parse(readFileSync(join(RECORDING_FOLDER, 'replay.json'), 'utf8'))
const windowBytes: Buffer[] = []
for (const { start, length } of segments)
  for (let at = start; at + 100 <= start + length; at += 50)
    windowBytes.push(bytes.subarray(at * SAMPLE_BYTES, (at + 100) * SAMPLE_BYTES))

test('cutWindows() cuts 1,134 windows of 100 samples and none across two segments', () => {
  const windows = cutWindows(loadRecording(), 50)
  expect(windows).toHaveLength(1134)
  for (const { segment, input } of windows) {
    const start = input.byteOffset / SAMPLE_BYTES
    expect(input.length).toBe(100 * 9)
    expect(start).toBeGreaterThanOrEqual(segment.start)
    expect(start + 100).toBeLessThanOrEqual(segment.start + segment.length)
  }
})

test('cutWindows() labels a window as most of its samples are, and with the smallest index in a tie', () => {
  const labels = new Uint8Array(200)
  labels.fill(3, 0, 50).fill(1, 50, 100)
  labels.fill(1, 100, 149).fill(2, 149, 200)
  const recording = {
    samples: new Float32Array(200 * 9),
    labels,
    motifs: ['a', 'b', 'c', 'd'],
    segments: [{ start: 0, length: 200, execution: 's00_00', device: 'phone' as const }],
    sampleRateHz: 100,
  }
  expect(cutWindows(recording, 100).map(({ motif }) => motif)).toEqual([1, 2])
})

test.each(['json', 'binary'])('replay --%s posts every window once, in order, bit by bit', async encoding => {
  const server = await startServer()
  const { code, stdout } = await runReplay(server.url, `--${encoding}`, '--speed', '5000')
  expect(server.posts).toHaveLength(1134)
  expect(server.posts.findIndex(({ window }, index) => !window.equals(windowBytes[index]!))).toBe(-1)
  expect(stdout).toContain('tcn-vae-motion-12 1.0.0, mode onnx')
  expect(stdout).toContain('backend onnx, model sha256 0123456789ab')
  expect(code).toBe(0)
})

test.each(['json', 'binary'])(
  'replay --%s compares every answer with the true motif of its window',
  async encoding => {
    const { url } = await startServer()
    const { stdout } = await runReplay(url, `--${encoding}`, '--speed', '2000', '--limit', '60')
    const windows = cutWindows(loadRecording(), 50).slice(0, 60)
    const predicted = windowBytes.slice(0, 60).map(motifOf)
    const right = windows.filter(({ motif }, index) => motif === predicted[index]).length
    expect(stdout).toContain(`accuracy   ${(right / 60).toFixed(4)} (${right} of 60)\n`)

    // The first segment is a phone's: motifs 0 to 5 are its own, 6 to 11 the same motions on a watch.
    const first = windows.filter(({ segment }) => segment.start === 0)
    const letters = (motifs: number[]) => motifs.map(motif => 'auwlrdAUWLRD'[motif]).join('')
    expect(stdout).toContain(`s02_01 phone  true       ${letters(first.map(({ motif }) => motif))}\n`)
    expect(stdout).toContain(`predicted  ${letters(predicted.slice(0, first.length))}  `)
  },
)

test('replay --bulk posts so many windows in one request, and takes each of their results', async () => {
  const server = await startServer({ refuse: index => index === 2 })
  const { code, stdout } = await runReplay(
    server.url,
    '--bulk',
    '25',
    '--limit',
    '60',
    '--deadline-ms',
    '900',
  )
  expect(server.posts.map(({ window }) => window.length / 3600)).toEqual([25, 25, 10])
  expect(Buffer.concat(server.posts.map(({ window }) => window))).toEqual(
    Buffer.concat(windowBytes.slice(0, 60)),
  )
  expect(server.posts[0]!.headers['x-deadline-ms']).toBe('900')
  expect(stdout).toMatch(/accuracy .* of 50\)/)
  expect(stdout).toContain('failed     10 × overloaded\n')
  expect(stdout).toContain('sent to answered')
  expect(code).toBe(1)
})

test('replay --connections 2 has two requests in flight, never more', async () => {
  const server = await startServer({ delayMs: 3 })
  const { code } = await runReplay(server.url, '--connections', '2', '--speed', '2000', '--limit', '60')
  expect(server.posts).toHaveLength(60)
  expect(server.mostInFlight()).toBe(2)
  expect(code).toBe(0)
})

test('replay measures latency from when a window was due, not from when a connection was free', async () => {
  const { url } = await startServer({ delayMs: 20 })
  const { stdout } = await runReplay(url, '--speed', '1000', '--limit', '20')
  // Twenty windows are due within 10 ms and take 400 ms one after the other; a closed loop would see 20 ms for each.
  const latency = /p50 (\S+) +p95 (\S+) +p99 (\S+) +max (\S+) ms/.exec(stdout)!.slice(1).map(Number)
  expect(latency[0]).toBeGreaterThan(150)
  expect(latency[3]).toBeGreaterThan(350)
  expect(latency).toEqual(latency.toSorted((a, b) => a - b))
})

test('replay counts refused windows by their code, shows them as failed and exits 1', async () => {
  const { url } = await startServer({ refuse: index => index % 5 === 0 })
  const { code, stdout } = await runReplay(url, '--speed', '2000', '--limit', '20')
  expect(stdout).toContain('failed     4 × 429 overloaded\n')
  expect(stdout).toMatch(/accuracy .* of 16\)/)
  expect(stdout).toMatch(/predicted {2}(!\w{4}){4}/)
  expect(code).toBe(1)
})

test('replay counts an answer without motif scores, and a connection that breaks, as failed', async () => {
  const { url } = await startServer({ spoil: index => (index % 2 === 0 ? 'scores' : 'connection') })
  const { code, stdout } = await runReplay(url, '--speed', '2000', '--limit', '4')
  expect(stdout).toContain('failed     2 × 200 without 12 motif scores, 2 × ECONNRESET\n')
  expect(code).toBe(1)
})

test('replay says that the accuracy means nothing when the stub answers', async () => {
  const { url } = await startServer({ backend: 'stub' })
  const { code, stdout } = await runReplay(url, '--speed', '2000', '--limit', '5')
  expect(stdout).toContain('accuracy means nothing')
  expect(code).toBe(0)
})

test('replay --deadline-ms is sent with every window', async () => {
  const server = await startServer()
  await runReplay(server.url, '--deadline-ms', '25', '--speed', '2000', '--limit', '3')
  expect(server.posts.map(({ headers }) => headers['x-deadline-ms'])).toEqual(['25', '25', '25'])
})

test('replay stops at SIGINT, sums up what was answered and exits 130', async () => {
  const server = await startServer()
  const replay = startReplay('--url', server.url, '--speed', '25')
  while (server.posts.length < 3) await setTimeout(5)
  replay.child.kill('SIGINT')
  const { code, stdout } = await replay.ended
  expect(stdout).toContain(`stopped    after ${server.posts.length} of 1134 windows`)
  expect(stdout).toContain(`of ${server.posts.length})`)
  expect(code).toBe(130)
})

test('replay says in one sentence that the server cannot be reached, and exits 1', async () => {
  const { url, close } = await startServer()
  await close()
  const { code, stdout, stderr } = await runReplay(url)
  expect(stderr).toBe(
    `Cannot reach ${url}/ (ECONNREFUSED): start the server with npm start, or pass --url.\n`,
  )
  expect(stdout).toBe('')
  expect(code).toBe(1)
})

test.each([
  [['--speed', 'fast'], 'Cannot parse --speed fast: expected a number above 0'],
  [['--connections', '0'], 'Cannot parse --connections 0: expected a whole number from 1'],
  [['--url', 'https://127.0.0.1'], 'Cannot parse --url https://127.0.0.1: expected http://host:port'],
  [['--json', '--binary'], 'Cannot use --json and --binary together'],
  [['--stream', '--bulk', '8'], 'Cannot use --stream and --bulk together'],
  [['--bulk', '0'], 'Cannot parse --bulk 0: expected a whole number from 1'],
  [['--sped', '2'], "Unknown option '--sped'"],
])('replay %j is refused with exit code 2', async (args, message) => {
  const { code, stderr } = await startReplay(...args).ended
  expect(stderr).toContain(message)
  expect(code).toBe(2)
})

/** A motif that follows from the low bits of the last sample: only a window's exact bytes lead to it. */
function motifOf(window: Buffer): number {
  return window.readUInt32LE(window.length - SAMPLE_BYTES) % 12
}

/** Keeps the contract of GET /healthz and POST /infer, with motifOf() for a model. */
async function startServer({
  backend = 'onnx',
  delayMs = 0,
  refuse = (_index: number): boolean => false,
  spoil = (_index: number): 'scores' | 'connection' | null => null,
} = {}) {
  const posts: { window: Buffer; headers: IncomingHttpHeaders }[] = []
  let inFlight = 0
  let mostInFlight = 0
  const server = createServer(async (request, response) => {
    const route = `${request.method} ${request.url}`
    if (route === 'GET /healthz')
      return response.end(JSON.stringify({ model: 'tcn-vae-motion-12', version: '1.0.0', mode: backend }))
    if (route !== 'POST /infer') return response.writeHead(404).end()

    mostInFlight = Math.max(mostInFlight, ++inFlight)
    const { headers } = request
    const body = await buffer(request)
    const binary = headers['content-type'] === 'application/octet-stream'
    const window = binary ? body : Buffer.from(Float32Array.from(JSON.parse(body.toString()).x.flat()).buffer)
    const index = posts.push({ window, headers }) - 1
    if (delayMs > 0) await setTimeout(delayMs)
    inFlight--

    response.setHeader('X-Inference-Backend', backend).setHeader('X-Model-Sha256', '0123456789ab')
    const latent = new Array<number>(64).fill(1)
    const scoresOf = (window: Buffer) => {
      const scores = new Array<number>(12).fill(0.05)
      scores[motifOf(window)] = 0.45
      return scores
    }
    if (spoil(index) === 'connection') request.socket.destroy()
    else if (spoil(index) === 'scores') response.end(JSON.stringify({ latent, motif_scores: [] }))
    else if (refuse(index)) response.writeHead(429).end(JSON.stringify({ error: 'overloaded' }))
    else if (headers.accept !== 'application/octet-stream')
      response.end(JSON.stringify({ latent, motif_scores: scoresOf(window) }))
    else {
      const rows = []
      for (let at = 0; at < window.length; at += 3600)
        rows.push(...latent, ...scoresOf(window.subarray(at, at + 3600)))
      response.end(new Uint8Array(Float32Array.from(rows).buffer))
    }
  })
  await once(server.listen(0, '127.0.0.1'), 'listening')
  const close = async () => {
    server.closeAllConnections()
    if (server.listening) await once(server.close(), 'close')
  }
  onTestFinished(close)
  const { port } = server.address() as AddressInfo
  return { url: `http://127.0.0.1:${port}`, posts, mostInFlight: () => mostInFlight, close }
}

function runReplay(url: string, ...args: string[]) {
  return startReplay('--url', url, ...args).ended
}

/** Runs what `npm run replay` runs, so it needs a build. */
function startReplay(...args: string[]) {
  const child = spawn(process.execPath, ['dist/bench/replay.js', ...args], {
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  onTestFinished(() => void child.kill())
  const ended = Promise.all([text(child.stdout), text(child.stderr), once(child, 'close')]).then(
    ([stdout, stderr, [code]]) => ({ stdout, stderr, code: code as number }),
  )
  return { child, ended }
}
