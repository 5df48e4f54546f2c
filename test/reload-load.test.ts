import { readdirSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import { expect, test, vi } from 'vitest'
import { ask, bytesOf, OCTET_STREAM, postWindow, resultOf } from './http-client.ts'
import { metric, residentMegabytes, startServerForTest, until } from './load.ts'
import { differenceOf, type ModelVersion, type ModelVersions, versionsForTest } from './model-versions.ts'
import type { TestServer } from './server.ts'
import { windowOf } from './windows.ts'
import { greet, IN_BINARY, IN_JSON, type Speech, WebSocketClient } from './ws-client.ts'

/** Servers and golden vectors are made, on machines that do other things too. */
vi.setConfig({ testTimeout: 60_000 })

const LOAD = 'POST /v2/repository/models/tcn_encoder/load'
const RELOADS = 200
const ROW_BYTES = 304
const BULK_WINDOWS = 16
/** Of each client, between an answer and its next window: the load is that of a day, not of a flood. */
const PAUSE_MS = 15
/** About when a reload opens or hands over what it has read. It must hold whenever it is. */
const INTO_RELOAD_MS = 100
/** Nothing may be late here: what is asked is who answers. */
const PATIENT = { WORKERS: '2', DEADLINE_MS: '5000' }

test('200 reloads under every kind of load fail no request, mix no models up, and leave nothing behind', async () => {
  const versions = await versionsForTest()
  const server = await startServerForTest({ ONNX_PATH: versions.onnxPath, ...PATIENT })
  const load = new Load(server, versions)
  const held: { megabytes: number; threads: number; files: number }[] = []
  for (let reload = 1; reload <= RELOADS; reload++) {
    versions.turn([versions.first, versions.second][reload % 2]!.version)
    expect((await ask(server, LOAD)).status, `reload ${reload}`).toBe(200)
    held.push(heldBy(server))
  }
  await load.end()
  expect(await metric(server.port, 'hailo_model_generation')).toBe(RELOADS)
  expect(load.failures).toEqual([])
  // Each kind of client was answered by both, again and again.
  for (const count of Object.values(load.answers)) expect(count).toBeGreaterThan(20)
  for (const kind of Object.keys(load.answers)) {
    expect([kind, load.answeredBy.get(`${kind} 1.0.0`), load.answeredBy.get(`${kind} 1.1.0`)]).toEqual([
      kind,
      expect.any(Number),
      expect.any(Number),
    ])
  }

  const quarter = RELOADS / 4
  const median = (from: number, of: keyof (typeof held)[0]) =>
    held
      .map(each => each[of])
      .slice(from, from + quarter)
      .sort((a, b) => a - b)[quarter / 2]!
  // What is lost with each reload is lost a hundred times between the two quarters.
  for (const [of, slack] of [
    ['megabytes', 30],
    ['threads', 6],
    ['files', 6],
  ] as const) {
    expect(median(3 * quarter, of), of).toBeLessThanOrEqual(median(quarter, of) + slack)
  }
  expect(await server.stop()).toBe(0)
}, 180_000)

test('SIGTERM in the middle of reloads answers all that was admitted and ends with 0', async () => {
  const versions = await versionsForTest()
  const server = await startServerForTest({ ONNX_PATH: versions.onnxPath, ...PATIENT })
  const load = new Load(server, versions)
  await load.untilAnswered()
  versions.turn(versions.second.version)
  server.process.kill('SIGHUP')
  await sleep(INTO_RELOAD_MS)
  const stopped = server.stop()
  load.tolerateEnd()
  expect(await stopped, `${INTO_RELOAD_MS} ms after SIGHUP`).toBe(0)
  await load.end()
  expect(load.failures, `${INTO_RELOAD_MS} ms after SIGHUP`).toEqual([])
})

test('what is started after kill -9 in the middle of a reload serves what the link leads to', async () => {
  const versions = await versionsForTest()
  const env = { ONNX_PATH: versions.onnxPath, ...PATIENT }
  const killed = await startServerForTest(env)
  versions.turn(versions.second.version)
  killed.process.kill('SIGHUP')
  await sleep(INTO_RELOAD_MS)
  expect(await killed.stop('SIGKILL'), `${INTO_RELOAD_MS} ms after SIGHUP`).toBe('SIGKILL')
  const server = await startServerForTest(env)
  const answer = await postWindow(server, windowOf(1))
  expect(answer.headers['x-model-sha256']).toBe(versions.second.sha256.slice(0, 12))
  expect(differenceOf(resultOf(answer), versions.second.expected(1))).toBeLessThan(1e-4)
})

/** One client of each kind, which look at all that they are told. */
class Load {
  readonly failures: string[] = []
  readonly answers: Record<string, number> = {}
  /** By kind and version. */
  readonly answeredBy = new Map<string, number>()
  readonly #server: TestServer
  readonly #models: readonly ModelVersion[]
  readonly #clients: Promise<void>[]
  #over = false
  /** A server that drains may refuse and close. */
  #ending = false
  #index = 0

  constructor(server: TestServer, { first, second }: ModelVersions) {
    this.#server = server
    this.#models = [first, second]
    this.#clients = [
      this.#keepAsking('JSON', index => this.#post(index, {})),
      this.#keepAsking('binary', index =>
        this.#post(index, { 'Content-Type': OCTET_STREAM, Accept: OCTET_STREAM }),
      ),
      this.#keepAsking('bulk', index => this.#postMany(index)),
      this.#stream(IN_JSON),
      this.#stream(IN_BINARY),
    ]
  }

  async untilAnswered(): Promise<void> {
    await until(() => Object.values(this.answers).length === this.#clients.length)
  }

  tolerateEnd(): void {
    this.#ending = true
  }

  async end(): Promise<void> {
    this.#over = true
    await Promise.all(this.#clients)
  }

  async #keepAsking(kind: string, askOnce: (index: number) => Promise<[string, Float32Array][] | null>) {
    while (!this.#over) {
      const index = this.#index++ % 32
      try {
        for (const [at, [shas, output]] of ((await askOnce(index)) ?? []).entries()) {
          this.#judge(kind, shas, output, index + at)
        }
      } catch (error) {
        if (this.#ending) return
        this.failures.push(`${kind}: ${error}`)
      }
      await sleep(PAUSE_MS)
    }
  }

  async #post(index: number, headers: Record<string, string>): Promise<[string, Float32Array][] | null> {
    const answer = await postWindow(this.#server, windowOf(index), headers)
    if (answer.status === 503 && this.#ending) return null
    if (answer.status !== 200) throw new Error(`${answer.status} ${answer.body}`)
    return [[answer.headers['x-model-sha256'] as string, resultOf(answer)]]
  }

  async #postMany(index: number): Promise<[string, Float32Array][] | null> {
    const windows = Array.from({ length: BULK_WINDOWS }, (_, n) => bytesOf(windowOf(index + n)))
    const headers = { 'Content-Type': OCTET_STREAM, Accept: OCTET_STREAM }
    const answer = await ask(this.#server, 'POST /infer', { headers, body: Buffer.concat(windows) })
    if (this.#ending && (answer.status === 503 || answer.headers['x-windows-failed'] !== '0')) return null
    if (answer.status !== 200 || answer.headers['x-windows-failed'] !== '0') {
      throw new Error(`${answer.status}, ${answer.headers['x-windows-failed']} failed`)
    }
    const all = new Float32Array(Uint8Array.from(answer.body).buffer)
    const row = ROW_BYTES / 4
    return windows.map((_, at) => [
      answer.headers['x-model-sha256'] as string,
      all.subarray(at * row, (at + 1) * row),
    ])
  }

  async #stream(speech: Speech): Promise<void> {
    const kind = `${speech.name} stream`
    const client = await WebSocketClient.open(this.#server)
    await greet(client, speech)
    for (let sequence = 1; !this.#over; sequence++) {
      const index = sequence % 32
      client.send(speech.window(sequence, windowOf(index)))
      const said = await client.nextAnswer().catch(error => ({ type: String(error) }) as const)
      if (said.type === 'result' && 'bits' in said) {
        this.#judge(kind, this.#told(said.model_sha256), said.bits, index)
      } else if (this.#ending) return
      else this.failures.push(`${kind}: ${JSON.stringify(said)}`)
      await sleep(PAUSE_MS)
    }
  }

  /** Binary frames tell two bytes of it. */
  #told(start: string): string {
    return this.#models.find(({ sha256 }) => sha256.startsWith(start))?.sha256.slice(0, 12) ?? start
  }

  /** @param shas that the answer claims: one that holds results of two models names both */
  #judge(kind: string, shas: string, output: Float32Array, index: number): void {
    this.answers[kind] = (this.answers[kind] ?? 0) + 1
    const model = this.#models.find(each => differenceOf(output, each.expected(index)) < 1e-4)
    const claimed = model !== undefined && shas.split(', ').includes(model.sha256.slice(0, 12))
    if (!claimed) this.failures.push(`${kind} ${index}: of ${model?.version}, told to be of ${shas}`)
    else {
      const key = `${kind} ${model.version}`
      this.answeredBy.set(key, (this.answeredBy.get(key) ?? 0) + 1)
    }
  }
}

function heldBy({ process: { pid } }: TestServer) {
  return {
    megabytes: residentMegabytes(pid!),
    threads: readdirSync(`/proc/${pid}/task`).length,
    files: readdirSync(`/proc/${pid}/fd`).length,
  }
}
