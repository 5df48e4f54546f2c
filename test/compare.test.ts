import { execFile } from 'node:child_process'
import { once } from 'node:events'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { promisify } from 'node:util'
import { afterAll, beforeAll, expect, onTestFinished, test } from 'vitest'
import { startServer, type TestServer } from './server.ts'

let model: TestServer
let stub: TestServer
beforeAll(async () => {
  const settings = { WORKERS: '1', LOG_LEVEL: 'fatal' }
  const servers = [startServer(settings), startServer({ ...settings, INFER_MODE: 'stub' })] as const
  ;[model, stub] = await Promise.all(servers)
})
afterAll(() => Promise.all([model.stop(), stub.stop()]))

test('compare finds one model alike on two sides, and another one not', async () => {
  const [same, other] = await Promise.all([
    compare('--windows', '5', urlOf(model), urlOf(model)),
    compare('--windows', '5', urlOf(model), urlOf(stub)),
  ])
  expect(same.stdout.match(/5 of 5 answered/g)).toHaveLength(2)
  expect(same.stdout).toMatch(/cosine of the latents {2}1\.0000 at least/)
  expect(same.stdout).toMatch(/the same top motif {5}5 of 5$/m)
  expect(same.code).toBe(0)
  expect(other.stdout).not.toMatch(/1\.0000 at least|makes them up/)
  expect(other.code).toBe(0)
})

test('compare says who makes answers up, who refuses, and who is not there', async () => {
  let asked = 0
  const sidecar = createServer((request, response) => {
    request.resume()
    const latent = Array.from({ length: 64 }, () => Math.random() - 0.5)
    const isRefused = ++asked === 2
    response.writeHead(isRefused ? 422 : 200, { 'Content-Type': 'application/json' })
    response.end(JSON.stringify(isRefused ? { detail: [] } : { latent, motif_scores: Array(12).fill(0.5) }))
  }).listen(0, '127.0.0.1')
  onTestFinished(() => void sidecar.close())
  await once(sidecar, 'listening')
  const url = `http://127.0.0.1:${(sidecar.address() as AddressInfo).port}`

  const made = await compare('--windows', '3', url, urlOf(model))
  expect(made.stdout).toMatch(
    /2 of 3 answered, .*\n {2}failed: 422.*\n {2}the same window got another answer/,
  )
  expect(made.stdout).toMatch(/the same top motif {5}\d of 2$/m)
  expect(made.code).toBe(1)

  const nobody = await compare('--windows', '1', 'http://127.0.0.1:1', urlOf(model))
  expect(nobody.stdout).toMatch(/0 of 1 answered, .*\n {2}failed: disconnected/)
  expect(nobody.stdout).toContain('No window was answered by both')
  expect(nobody.code).toBe(1)
})

test('compare refuses what it cannot do in words', async () => {
  const [one, noUrl, none] = await Promise.all([
    compare('http://127.0.0.1:1'),
    compare('localhost', 'http://127.0.0.1:1'),
    compare('--windows', '0', 'http://127.0.0.1:1', 'http://127.0.0.1:1'),
  ])
  expect(one.stderr).toContain('Name two servers')
  expect(noUrl.stderr).toContain('Invalid URL')
  expect(none.stderr).toContain('--windows: 0 is not valid')
  expect([one.code, noUrl.code, none.code]).toEqual([2, 2, 2])
})

function urlOf({ port }: TestServer): string {
  return `http://127.0.0.1:${port}`
}

async function compare(...args: string[]): Promise<{ code: number; stdout: string; stderr: string }> {
  const run = promisify(execFile)(process.execPath, ['dist/bench/compare.js', ...args], { timeout: 60_000 })
  const ended = await run.catch(error => error)
  return { code: 0, ...ended }
}
