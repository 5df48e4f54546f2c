import { once } from 'node:events'
import { connect, type Socket } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import { expect, onTestFinished, test } from 'vitest'
import { bytesOf, headOf, OCTET_STREAM } from './http-client.ts'
import { Connection, post, startServerForTest, until } from './load.ts'
import { windowOf } from './windows.ts'

const BINARY = { 'Content-Type': OCTET_STREAM, Accept: OCTET_STREAM }
const HEAD = headOf('POST /infer', { ...BINARY, 'Content-Length': 3600, 'X-Deadline-Ms': 2000 })
const SUCCESS = 'hailo_inference_requests_total{operation="tcn_vae_inference",status="success"'
const LATE = 'hailo_inference_errors_total{error_type="deadline_exceeded"}'

test('clients that vanish without a word give back what they held: slots at once, connections when they have idled', {
  timeout: 40_000,
}, async () => {
  const { port } = await startServerForTest({ INFER_MODE: 'stub', WORKERS: '1', MAX_CONNECTIONS: '33' })
  const watching = new Connection(port)
  onTestFinished(() => watching.close())
  const told = async (row: string) => {
    const rows = String((await watching.get('/metrics')).body).split('\n')
    return Number(
      rows
        .find(text => text.startsWith(row))!
        .split(' ')
        .at(-1),
    )
  }
  // Each of them stays connected, and neither sends nor reads any more: to the server, its host has lost power.
  const window = bytesOf(windowOf(0))
  const asked = await silentClients(port, HEAD, window)
  const half = await silentClients(port, HEAD, window.subarray(0, 1800))
  await until(async () => (await told(SUCCESS)) === 8 && (await told(LATE)) === 8)
  expect(await told('hailo_queue_depth')).toBe(0)

  // With these the house is full.
  const silent = [...(await silentClients(port, HEAD.slice(0, -10))), ...(await silentClients(port))]
  const closed = silent.map(client => once(client.resume(), 'close'))
  const isServed = () =>
    post(port, windowOf(1), { deadlineMs: 2000 }).then(
      ({ status }) => status === 200,
      () => false,
    )
  await until(async () => !(await isServed()) && (await told('hailo_connections_refused_total')) > 0)
  let open = silent.length
  for (const one of closed) void one.then(() => open--)
  while (open > 0) {
    await told(SUCCESS) // so that the watching one does not idle
    await sleep(100)
  }
  expect(await isServed()).toBe(true)
  // Their answers had gone out.
  for (const client of asked) expect(await statusAt(client)).toBe(200)
  for (const client of half) expect(await statusAt(client)).toBe(504)
})

/** Eight clients that send this much and fall silent. */
async function silentClients(port: number, ...parts: (string | Uint8Array)[]): Promise<Socket[]> {
  const clients = Array.from({ length: 8 }, () => connect({ port, host: '127.0.0.1' }).pause())
  for (const client of clients) {
    onTestFinished(() => void client.destroy())
    client.on('error', () => {})
  }
  await Promise.all(clients.map(client => once(client, 'connect')))
  for (const client of clients) for (const part of parts) client.write(part)
  return clients
}

/** What the answer says that has waited for its client. */
async function statusAt(client: Socket): Promise<number> {
  const answer: Buffer[] = []
  client.on('data', part => answer.push(part)).resume()
  await until(() => answer.length > 0)
  return Number(/^HTTP\/1\.1 (\d+)/.exec(String(answer[0]))![1])
}
