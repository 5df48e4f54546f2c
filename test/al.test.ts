import { execFile } from 'node:child_process'
import { appendFileSync, existsSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { LATENT_DIMS, WINDOW_BYTES } from '../src/core/window.ts'
import { PROJECT_FOLDER } from '../src/project.ts'
import { type KeptReason, TelemetryCounters } from '../src/telemetry/counters.ts'
import { KeptLine } from '../src/telemetry/line.ts'
import { select } from '../src/telemetry/selection.ts'
import { Archive } from '../workers/telemetry/archive.ts'
import { bytesOf } from './http-client.ts'
import { filesIn, folderForTest } from './telemetry-folder.ts'
import { GOLDEN, windowOf } from './windows.ts'

const PROGRAM = join(PROJECT_FOLDER, 'dist/src/cli/al.js')
const DAY = '2026-11-21'
const NOON_MS = Date.parse(`${DAY}T12:00:00Z`)

test('al select writes what is most worth a label, with its samples in the same order, and nothing twice', async () => {
  // Each of ten windows was kept three times, under one reason or two.
  const folder = folderOf(
    Array.from({ length: 30 }, (_, n) => lineOf(n % 10, n % 10 < 8 ? ['low_margin'] : ['suspect_units'])),
  )
  const out = join(folderForTest(), 'out')
  const { code, stdout } = await al(['select', '--day', DAY, '--limit', '6', '--out', out], folder)
  expect(code).toBe(0)
  const chosen = selectedIn(out)
  expect(chosen.map(({ row }) => row)).toEqual([0, 1, 2, 3, 4, 5])
  expect(chosen.map(({ chosen_for }) => chosen_for).sort()).toEqual([
    ...Array(4).fill('low_margin'),
    ...Array(2).fill('suspect_units'),
  ])
  const names = chosen.map(({ request_id }) => Number(request_id))
  expect(new Set(names).size).toBe(6)
  const samples = readFileSync(join(out, 'selected.f32'))
  expect(samples).toEqual(Buffer.concat(names.map(n => bytesOf(windowOf(n)))))
  expect(stdout).toMatch(/^chose 6 of 30 windows.*low_margin +4 of 24\n.*suspect_units +2 of 6\n.*12 others/s)

  rmSync(join(out, 'selected.ndjson'))
  const again = await al(['select', '--day', DAY, '--out', out], folder)
  expect(again).toMatchObject({ code: 1, stderr: expect.stringContaining('EEXIST') })
  expect(readFileSync(join(out, 'selected.f32'))).toEqual(samples)
  expect(existsSync(join(out, 'selected.ndjson'))).toBe(false) // both or none
})

test('select() prefers what is unlike all that was chosen to more of the same', () => {
  const crowd = Array.from({ length: 40 }, (_, n) => {
    const line = lineOf(0, ['low_margin'])
    return { ...line, latent: line.latent.map((value, dim) => value + ((n * (dim + 1)) % 7) * 0.01) }
  })
  const others = [lineOf(5, ['low_margin']), lineOf(20, ['low_margin']), lineOf(50, ['low_margin'])]
  const windows = [...crowd, ...others].map(line => ({ line, samplesPath: '' }))
  const { chosen } = select(windows, 4)
  const names = chosen.map(({ window }) => window.line.request_id)
  expect(names.toSorted()).toEqual(['0', '20', '5', '50'])
  const all = select(windows, windows.length)
  expect(all.chosen.length).toBeLessThan(20) // one label will do for what is nearly the same
  expect(all.chosen.length + all.nearDuplicates).toBe(windows.length)
})

test('select() takes of windows that are equally far the one that the model was less sure of', () => {
  const lines = [0.09, 0.01, 0.05].map((margin, n) => ({
    ...lineOf(n, ['low_margin']),
    margin,
    entropy: 0.5,
  }))
  const { chosen } = select(
    lines.map(line => ({ line, samplesPath: '' })),
    1,
  )
  expect(chosen).toMatchObject([{ window: { line: { margin: 0.01 } } }])
})

test('al passes over what a killed run has left unfinished, and says so', async () => {
  const folder = folderOf([lineOf(1, ['far_latent']), lineOf(2, ['far_latent']), lineOf(3, ['far_latent'])])
  const [samples, lines] = ['f32', 'ndjson'].map(ending =>
    join(folder, filesIn(folder).find(name => name.endsWith(ending))!),
  )
  truncateSync(samples!, 2 * WINDOW_BYTES + 17)
  appendFileSync(lines!, '{"v":1,"ti')
  const out = folderForTest()
  const { code, stdout } = await al(['select', '--day', DAY, '--out', out], folder)
  expect(code).toBe(0)
  expect(
    selectedIn(out)
      .map(({ request_id }) => request_id)
      .sort(),
  ).toEqual(['1', '2'])
  expect(stdout).toContain('2 lines are not whole, or have no samples')
})

test('al days lists what there is of each day', async () => {
  const folder = folderOf([lineOf(1, ['far_latent', 'low_margin'])])
  writeFileSync(join(folder, DAY, 'answers-001.ndjson'), '{}\n{}\n')
  const { code, stdout } = await al(['days', '--dir', folder])
  expect(code).toBe(0)
  expect(stdout).toMatch(/^2026-11-21 +2 lines +0\.0 MB +1 windows kept \(low_margin 1, far_latent 1\)\n$/)
})

test('al says what is wrong with what it was asked', async () => {
  const folder = folderOf([lineOf(1, ['far_latent'])])
  const refusals: [args: string[], code: number, words: string][] = [
    [[], 64, 'The command is missing, expected days or select'],
    [['label'], 64, 'The command is label, expected days or select'],
    [['select', '--dir', folder], 64, '--day is missing, expected a day as 2026-11-21'],
    [['select', '--dir', folder, '--day', 'today'], 64, '--day is today'],
    [['select', '--dir', folder, '--day', DAY, '--limit', '0'], 64, '--limit is 0'],
    [['days'], 64, '--dir is missing, and TELEMETRY_DIR is not set'],
    [['days', '--dir', folder, '--day', DAY], 64, '--day is for select, not for days'],
    [['days', '--dir', '/nowhere'], 1, '/nowhere is not a folder'],
    [['days', '--dir', folderForTest()], 1, 'holds no telemetry yet'],
    [['select', '--dir', folder, '--day', '2026-11-20'], 1, `There is telemetry of ${DAY}`],
  ]
  const found = await Promise.all(refusals.map(([args]) => al(args)))
  found.forEach(({ code, stderr }, index) => {
    expect(stderr).toContain(refusals[index]![2])
    expect(code).toBe(refusals[index]![1])
  })
  expect(existsSync(`selected-2026-11-20`)).toBe(false)
  const help = await al(['--help'])
  expect(help).toMatchObject({ code: 0, stdout: expect.stringContaining('npm run al -- COMMAND') })
})

/** A day's kept windows, as telemetry writes them: of each line the golden window that its request is named after. */
function folderOf(lines: readonly KeptLine[]): string {
  const folder = folderForTest()
  const archive = new Archive(folder, 1e9, new TelemetryCounters())
  for (const line of lines) {
    archive.addKept(
      windowOf(Number(line.request_id)),
      row => `${JSON.stringify({ ...line, row })}\n`,
      NOON_MS,
    )
  }
  archive.close()
  return folder
}

function lineOf(n: number, reasons: KeptReason[]): KeptLine {
  return KeptLine.parse({
    v: 1,
    time: new Date(NOON_MS).toISOString(),
    request_id: String(n),
    endpoint: '/infer',
    stream: 0,
    sequence: 0,
    config_version: '1',
    status: 'ok',
    backend: 'onnx',
    model_sha256: '',
    latency_ms: { admit: 0, queue: 0, infer: 0, settle: 0, encode: 0, total: 0 },
    top_motifs: [{ index: 0, label: 'walking', score: 1 }],
    confidence: 1,
    entropy: 0.5,
    margin: 0.05,
    reasons,
    row: 0,
    latent: [...GOLDEN.latents.subarray(n * LATENT_DIMS, (n + 1) * LATENT_DIMS)],
    motif_scores: [1],
  })
}

function selectedIn(out: string): (KeptLine & { chosen_for: KeptReason })[] {
  const texts = readFileSync(join(out, 'selected.ndjson'), 'utf8').trimEnd().split('\n')
  return texts.map(text => JSON.parse(text))
}

function al(args: string[], folder?: string): Promise<{ code: number; stdout: string; stderr: string }> {
  const env = folder === undefined ? {} : { TELEMETRY_DIR: folder }
  return new Promise(resolve => {
    execFile(process.execPath, [PROGRAM, ...args], { env }, (error, stdout, stderr) => {
      resolve({ code: Number(error?.code ?? 0), stdout, stderr })
    })
  })
}
