import { once } from 'node:events'
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { request } from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import { expect, onTestFinished, test } from 'vitest'
import { startServerForTest } from './load.ts'

const COLUMNS = ['fault', 'detector', 'who acts', 'bound', 'metric', 'test']
const [header, , ...rows] = faultTable(readFileSync('docs/runbook.md', 'utf8'))
const FAULTS = rows.map(cells => ({ fault: cells[0]!, metric: cells[4]!, tests: cells[5]!.split('<br>') }))

test('the table of faults has all of its columns in every row, and every fault once', () => {
  expect(header).toEqual(COLUMNS)
  expect(rows.filter(cells => cells.length !== COLUMNS.length || cells.includes(''))).toEqual([])
  expect(FAULTS.length).toBeGreaterThan(25)
  expect(new Set(FAULTS.map(({ fault }) => fault)).size).toBe(FAULTS.length)
})

test('every test that the table names exists', () => {
  const missing = FAULTS.flatMap(({ tests }) => tests).filter(named => !exists(named))
  expect(missing).toEqual([])
})

test('every metric that the table names is told', async () => {
  const told = await toldMetrics()
  const named = FAULTS.flatMap(({ metric }) => [...metric.matchAll(/`(\w+)`/g)].map(([, name]) => name!))
  expect(named.length).toBeGreaterThan(FAULTS.length - 5)
  expect(named.filter(name => !told.has(name))).toEqual([])
  // An engine that does not start tells by its exit code.
  expect(FAULTS.filter(({ metric }) => !/^(`\w+`(, )?)+$|^exit \d+$/.test(metric))).toEqual([])
})

/** Its cells, row by row. */
function faultTable(markdown: string): string[][] {
  const [, section] = /^## Faults and what happens$(.+?)^## /ms.exec(markdown)!
  return [...section!.matchAll(/^\|(.+)\|$/gm)].map(([, cells]) => cells!.split('|').map(cell => cell.trim()))
}

/** @param named a file and the title of a test as the file has it, or what a row of `test.each` is called */
function exists(named: string): boolean {
  const [, file, title] = /^`([\w-]+\.test\.ts)`: (.+)$/.exec(named) ?? []
  const path = `test/${file}`
  return (
    existsSync(path) &&
    ["'", '"', '`'].some(quote => readFileSync(path, 'utf8').includes(quote + title + quote))
  )
}

/** Of a server with all that has metrics: TLS too, so it is asked over its Unix-domain socket. */
async function toldMetrics(): Promise<Set<string>> {
  const folder = mkdtempSync(join(tmpdir(), 'runbook-'))
  onTestFinished(() => rmSync(folder, { recursive: true }))
  const socketPath = join(folder, 'dog.sock')
  await startServerForTest({
    WORKERS: '1',
    SIDECAR_SOCKET: socketPath,
    TLS_CERT: 'test/fixtures/tls/old.pem',
    TLS_KEY: 'test/fixtures/tls/old.key',
  })
  const [answer] = await once(request({ socketPath, path: '/metrics' }).end(), 'response')
  return new Set([...(await text(answer)).matchAll(/^# TYPE (\w+) /gm)].map(([, name]) => name!))
}
