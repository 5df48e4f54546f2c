import { execFileSync, spawn } from 'node:child_process'
import { createHash, randomUUID } from 'node:crypto'
import { once } from 'node:events'
import {
  chmodSync,
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
} from 'node:fs'
import { basename, join } from 'node:path'
import { text } from 'node:stream/consumers'
import { describe, expect, test, vi } from 'vitest'
import { parse, stringify } from 'yaml'
import { isVersionName, versionsIn } from '../src/artifacts/current.ts'
import { type GoldenVectors, Parity } from '../src/core/golden.ts'
import { softmax } from '../src/core/motif-head.ts'
import { CHANNELS, LATENT_DIMS, SENSORS, TIMESTEPS, WINDOW_VALUES } from '../src/core/window.ts'
import { PROJECT_FOLDER, SHIPPED_MODEL_FOLDER } from '../src/project.ts'
import { COMPILER_FOLDER, CompileRun, PYTHON, recorded, STAND_IN } from './compile-run.ts'
import { startHailo } from './hailo.ts'
import { buildNative, COMPILER, runProgram } from './native.ts'
import { GOLDEN, MOTIF_COUNT, windowOf } from './windows.ts'

const MANIFEST = JSON.parse(readFileSync(join(SHIPPED_MODEL_FOLDER, 'model.json'), 'utf8'))
const CONFIG = readFileSync(join(COMPILER_FOLDER, 'export_config.yaml'), 'utf8')
const DOCKERFILE = readFileSync(join(COMPILER_FOLDER, 'Dockerfile'), 'utf8')
const ENTRYPOINT = join(COMPILER_FOLDER, 'entrypoint.sh')
const HEF = 'tcn_encoder.hef'

test('export_config.yaml locks what model.json of the model that ships says, and names nodes of its graph', () => {
  const { locked, network } = parse(CONFIG)
  expect(MANIFEST).toMatchObject(locked)
  expect(network.name).toBe(MANIFEST.served_name)
  const graph = readFileSync(join(SHIPPED_MODEL_FOLDER, 'model.onnx'))
  for (const node of [network.start_node, ...network.end_nodes]) expect(graph.includes(node)).toBe(true)
})

test('the image has nothing of Hailo in it, and all that compile.py is made of', () => {
  const tracked = execFileSync('git', ['ls-files', '-co', '--exclude-standard'], { cwd: COMPILER_FOLDER })
  const files = tracked.toString().trimEnd().split('\n')
  expect(files.filter(file => /\.(whl|hef|har|deb|tar|gz|zip)$/.test(file))).toEqual([])

  const instructions = DOCKERFILE.replace(/^#.*\n/gm, '').replace(/\\\n\s*/g, '')
  const copied = [...instructions.matchAll(/^COPY (.+) \S+$/gm)].flatMap(([, sources]) => sources!.split(' '))
  const parts = files.filter(file => /\.(py|sh|yaml)$/.test(file)).map(file => file.split('/')[0])
  expect(copied.sort()).toEqual([...new Set(parts)].sort())
  expect(instructions).not.toMatch(/^ADD|\b(pip|curl|wget)\b|:latest/m)
  expect(instructions).toMatch(/^FROM --platform=linux\/amd64 ubuntu:22\.04$/m)
  expect(instructions).toMatch(/^USER 1000:1000$/m)
  expect(readFileSync(join(COMPILER_FOLDER, '.dockerignore'), 'utf8')).toMatch(/^\*$/m)
})

test.each([
  ['no wheel', [], '0 hailo_dataflow_compiler-\\*\\.whl'],
  ['two wheels', ['3.32.0', '3.33.0'], '2 hailo_dataflow_compiler-\\*\\.whl'],
])('with %s, the image says in a line where to get one', async (_, versions, found) => {
  const run = new CompileRun()
  for (const version of versions) run.file(`hailo_dataflow_compiler-${version}-py3-none-linux_x86_64.whl`, '')
  const env = { DFC_FOLDER: run.folder, CACHE_FOLDER: run.cache }
  const { code, stderr } = await runProgram(ENTRYPOINT, ['--version', '1.1.0'], env)
  expect(code).toBe(1)
  expect(stderr).toMatch(new RegExp(`^compile: ${found} in .*, expected one: download .*hailo\\.ai.*\\n$`))
  expect(readdirSync(run.cache)).toEqual([])
})

test('the image gives every user a cache, says when it waits for it, and clears what killed runs left', async () => {
  const run = new CompileRun()
  const wheel = run.file('hailo_dataflow_compiler-3.33.0-py3-none-linux_x86_64.whl', 'a wheel')
  const cache = join(run.cache, `${process.getuid!()}`)
  const venv = join(cache, `venv-${sha256Of(readFileSync(wheel)).slice(0, 32)}`)
  mkdirSync(join(venv, 'bin'), { recursive: true })
  mkdirSync(join(cache, 'making-of-another'))
  writeFileSync(join(venv, 'complete'), '')
  writeFileSync(join(venv, 'bin', 'python'), '#!/bin/sh\necho "$HOME" "$@"\n')
  chmodSync(join(venv, 'bin', 'python'), 0o755)

  const { PATH = '' } = process.env
  const other = spawn('flock', [join(cache, 'lock'), 'sh', '-c', 'echo held; exec cat'])
  await once(other.stdout, 'data')
  const waiting = spawn(ENTRYPOINT, ['--version', '1.1.0'], {
    env: { PATH, DFC_FOLDER: run.folder, CACHE_FOLDER: run.cache },
  })
  const [said] = await once(waiting.stderr.setEncoding('utf8'), 'data')
  expect(said).toBe('Waiting for another run with this cache to end ...\n')
  expect(readdirSync(cache)).toContain('making-of-another')
  other.stdin.end()
  expect(await text(waiting.stdout)).toBe(
    `${cache} ${join(COMPILER_FOLDER, 'compile.py')} --cache ${cache} --version 1.1.0\n`,
  )
  expect(readdirSync(cache).sort()).toEqual(['lock', basename(venv)])
})

describe.skipIf(PYTHON === null)('compile.py (skipped without python3-numpy and python3-yaml)', () => {
  test('makes a version that is verified and promoted, and does nothing twice', async () => {
    const run = new CompileRun()
    const { code, stdout, stderr } = await run.compile()
    expect(stderr).toContain('| SDK_QUANTIZED | 0.999610 (window 52) |')
    expect([code, stdout]).toEqual([0, `${join(run.models, '1.1.0')}\n`])
    const calls = [
      [
        'translate_onnx_model',
        ['model.onnx'],
        'tcn_encoder',
        ['/stem/Conv'],
        ['/mu/Gemm'],
        { '/stem/Conv': [1, 9, 1, 100] },
      ],
      ['load_model_script', expect.stringMatching(/optimization_level=0.*\n.*calibset_size=64\)\n$/)],
      ['optimize', [64, 1, 100, 9], zScoredMeans(64)],
      ['infer', 'SDK_NATIVE', [64, 1, 100, 9]],
      ['infer', 'SDK_QUANTIZED', [64, 1, 100, 9]],
      ['compile', 'hailo8'],
    ]
    expect(run.calls()).toEqual(calls)

    const version = join(run.models, '1.1.0')
    const manifest = JSON.parse(readFileSync(join(version, 'model.json'), 'utf8'))
    const { files, compiled, ...rest } = manifest
    const { files: released, ...shipped } = MANIFEST
    expect(rest).toEqual({ ...shipped, version: '1.1.0' })
    expect(compiled).toMatchObject({ file: HEF, architecture: 'hailo8', compiler: '3.33.0' })
    const { 'tcn_encoder.soft.hef': _, ...kept } = released
    expect(files).toMatchObject(kept)
    const made = [HEF, 'export_config.yaml', 'parity.json', 'parity.md']
    expect(Object.keys(files).sort()).toEqual([...Object.keys(kept), ...made].sort())
    expect(readFileSync(join(version, 'export_config.yaml'), 'utf8')).toBe(CONFIG)
    expect(readFileSync(join(version, 'LICENSE'))).toEqual(
      readFileSync(join(SHIPPED_MODEL_FOLDER, 'LICENSE')),
    )
    execFileSync('sha256sum', ['--quiet', '--strict', '-c', 'SHA256SUMS'], { cwd: version })
    expect(statSync(version).mode & 0o777).toBe(0o755) // the engine is another user

    const program = join(PROJECT_FOLDER, 'dist', 'src', 'cli', 'artifacts.js')
    const promoted = await runProgram(process.execPath, [program, 'promote', '--dir', run.models, '1.1.0'])
    expect(promoted.stderr).toBe('')
    expect(promoted.code).toBe(0)

    const again = await run.compile({ '--version': '1.2.0' })
    expect(again.code).toBe(0)
    expect(again.stderr).toMatch(/^parse: as before\noptimise: as before\n[\s\S]*^compile: as before$/m)
    expect(
      run
        .calls()
        .slice(calls.length)
        .map(([name]) => name),
    ).toEqual(['infer', 'infer'])
    expect(readFileSync(join(run.models, '1.2.0', HEF))).toEqual(readFileSync(join(version, HEF)))

    const taken = await run.compile({ '--version': '1.2.0' })
    expect([taken.code, taken.stderr]).toEqual([1, expect.stringContaining('1.2.0 is there already')])

    const hef = join(run.cache, readdirSync(run.cache).find(name => name.endsWith('.hef'))!)
    truncateSync(hef)
    const cut = await run.compile({ '--version': '1.3.0' })
    expect([cut.code, cut.stderr]).toEqual([
      1,
      expect.stringMatching(/^compile: .*begins with b'', .*it is deleted/m),
    ])
    expect([existsSync(hef), versionsIn(run.models)]).toEqual([false, ['1.1.0', '1.2.0']])
  })

  test.skipIf(COMPILER === null)('makes a version that the server answers with', async () => {
    await buildNative()
    const run = new CompileRun()
    expect((await run.compile()).code).toBe(0)
    const { server } = await startHailo({ HEF_PATH: join(run.models, '1.1.0', HEF) })
    const response = await fetch(`${server.url}/infer`, {
      method: 'POST',
      headers: { 'Content-Type': 'application/octet-stream', Accept: 'application/octet-stream' },
      body: Buffer.from(windowOf(0).slice().buffer),
    })
    expect(response.status).toBe(200)
    expect(response.headers.get('X-Inference-Backend')).toBe('hailo')
    const parity = Parity.of('hailo', GOLDEN)!
    parity.add(new Float32Array(await response.arrayBuffer()), 0)
    expect(`${parity}`).toContain('0 of 1 best motifs wrong')
    expect(parity.holds).toBe(true)
    expect(await (await fetch(`${server.url}/healthz`)).json()).toMatchObject({ version: '1.1.0' })
  })

  test('does anew what other inputs change, and only that', async () => {
    const run = new CompileRun()
    const steps = async (options: Record<string, string>) => {
      const { stderr } = await run.compile({
        '--version': `1.1.${readdirSync(run.models).length}`,
        ...options,
      })
      return Object.fromEntries(
        [...stderr.matchAll(/^(parse|optimise|compile): (.+)$/gm)].map(([, ...said]) => said),
      )
    }
    const [anew, before] = ['...', 'as before']
    expect(await steps({})).toEqual({ parse: anew, optimise: anew, compile: anew })
    const others = run.file('others.npy', npy(recorded(64, 64), 64))
    expect(await steps({ '--calibration': others })).toEqual({ parse: before, optimise: anew, compile: anew })
    const sameAsNpy = run.file('same.f32', recorded(64, 64))
    expect(await steps({ '--calibration': sameAsNpy })).toEqual({
      parse: before,
      optimise: before,
      compile: before,
    })
    const script = run.file('script.yaml', CONFIG.replace('optimization_level=0', 'optimization_level=2'))
    expect(await steps({ '--config': script })).toEqual({ parse: before, optimise: anew, compile: anew })
    expect(await steps({ '--arch': 'hailo8l' })).toEqual({ parse: anew, optimise: anew, compile: anew })

    // Weights may lie beside the ONNX; those that nobody lists are neither hashed nor read.
    const beside = { 'model.onnx.data': 'weights', SHA256SUMS: 'of the release' }
    const onnx = release(run, beside)['--onnx']!
    writeFileSync(`${onnx}_data`, 'others')
    expect(await steps({ '--onnx': onnx, '--version': 'beside' })).toEqual({
      parse: anew,
      optimise: anew,
      compile: anew,
    })
    expect(run.calls().findLast(([name]) => name === 'translate_onnx_model')).toContainEqual([
      'model.onnx',
      'model.onnx.data',
    ])
    const version = join(run.models, 'beside')
    execFileSync('sha256sum', ['--quiet', '--strict', '-c', 'SHA256SUMS'], { cwd: version })
    const { files } = JSON.parse(readFileSync(join(version, 'model.json'), 'utf8'))
    expect(Object.keys(files)).toContain('model.onnx.data')
    expect(Object.keys(files)).not.toContain('SHA256SUMS')
  })

  test('refuses what is locked otherwise than the release has it, and names both', async () => {
    const run = new CompileRun()
    const { locked, ...rest } = parse(CONFIG)
    const { mean } = locked.normalization
    const changed = {
      input: {
        window: 50,
        channels: 6,
        channel_order: ['gx', 'gy', 'gz', 'ax', 'ay', 'az', 'mx', 'my', 'mz'],
        units: [...Array(3).fill('g'), ...locked.input.units.slice(3)],
      },
      normalization: { method: 'min_max', mean: mean.with(8, 0) },
    }
    const config = run.file('config.yaml', stringify({ ...rest, locked: changed }))
    const { code, stderr } = await run.compile({ '--config': config })
    const both = [
      ...stderr.matchAll(/locked\.(\S+) is (.+?), and model\.json of the ONNX release has (.+?)(?=;|\n)/g),
    ]
    expect(both.map(([, ...words]) => words)).toEqual([
      ['input.window', '50', '100'],
      ['input.channels', '6', '9'],
      ['input.channel_order', expect.stringMatching(/^\['gx'/), expect.stringMatching(/^\['ax'/)],
      ['input.units', expect.stringMatching(/^\['g'/), expect.stringMatching(/^\['m\/s\^2'/)],
      ['normalization.method', 'min_max', 'z_score_per_channel'],
      [
        'normalization.mean',
        expect.stringMatching(/, 0\]$/),
        expect.stringMatching(/, -0\.36766529083251953\]$/),
      ],
      ['normalization.std', 'nothing', expect.stringMatching(/^\[5\.429281234741211, /)],
    ])
    expect(code).toBe(1)
    expect(readdirSync(run.models)).toEqual([])
  })

  test.each([
    ['float', /SDK_NATIVE \| 0\.959041 \(window 5\).*\| NO \|\n.*SDK_QUANTIZED.*\| yes \|/],
    ['latent', /SDK_NATIVE.*\| yes \|\n.*SDK_QUANTIZED \| -0\.999949 \(window 7\).*\| NO \|/],
    ['nan', /SDK_QUANTIZED \| nan .*\| NO \|/],
    ['motif', /\| 63 of 64 \| 1 \| NO \|/],
    ['width', /the end nodes give \[32\] values, expected a latent of 64/],
    ['shape', /the network takes \[\[-1, 9, 100, 1\]\], expected one input of 100 time steps and 9 features/],
  ])('publishes nothing where the emulator answers wrongly: %s', async (fault, words) => {
    const run = new CompileRun()
    const { code, stderr } = await run.compile({}, { FAKE_DFC_FAULT: fault })
    expect(stderr).toMatch(words)
    expect(code).toBe(1)
    expect(run.calls().map(([name]) => name)).not.toContain('compile')
    expect(readdirSync(run.models)).toEqual([])
  })

  test("measures and limits as the engine's own golden check does", async () => {
    const run = new CompileRun()
    expect((await run.compile()).code).toBe(0)
    const told = JSON.parse(readFileSync(join(run.models, '1.1.0', 'parity.json'), 'utf8'))

    const parity = Parity.of('hailo', GOLDEN)!
    int8Answers().forEach((output, index) => parity.add(output, index))
    expect(told.SDK_QUANTIZED.latent_cosine_min).toBeCloseTo(parity.cosine, 6)
    expect(told.SDK_QUANTIZED.latent_cosine_mean).toBeCloseTo(parity.meanCosine, 6)
    expect(told.SDK_QUANTIZED.top_motif_misses).toHaveLength(parity.topMotifMisses)

    for (const [context, backend] of [
      ['SDK_NATIVE', 'onnx'],
      ['SDK_QUANTIZED', 'hailo'],
    ] as const) {
      const { smallest_cosine, mean_cosine, tie } = told[context].limits
      const asked = `${Parity.of(backend, GOLDEN)}`
      expect(asked).toMatch(new RegExp(`expected ${smallest_cosine}, .*expected ${mean_cosine}, `))
      expect([tie - 0.02, tie + 0.02].map(margin => missesAt(backend, margin))).toEqual([tie > 0 ? 0 : 1, 1])
    }
  })

  test('leaves no version where it is ended or killed, and the next run makes it', async () => {
    const run = new CompileRun()
    const stuck = run.start({}, { FAKE_DFC_FAULT: 'hang' })
    await vi.waitFor(() => expect(run.calls().map(([name]) => name)).toContain('compile'), 30_000)
    stuck.kill('SIGTERM')
    expect(await once(stuck, 'close')).toEqual([143, null])
    expect(readdirSync(run.models)).toEqual([])
    expect(readdirSync(run.cache).filter(name => name.startsWith('making-'))).toEqual([])

    // Held at the last moment: all is written, and the folder has not its name yet.
    mkdirSync(join(run.folder, 'held'))
    const log = join(run.folder, 'log')
    run.file(
      'held/sitecustomize.py',
      `import os, time
def log(*words): open('${log}', 'a').write(' '.join(words) + '\\n')
def fsync(file): log('sync', os.readlink(f'/proc/self/fd/{file}'))
def replace(made, path, replaced=os.replace): log('replace', str(path)); replaced(made, path)
def rename(*_): log('rename'); time.sleep(600)
os.fsync, os.replace, os.rename = fsync, replace, rename
`,
    )
    const held = run.start({}, { PYTHONPATH: `${join(run.folder, 'held')}:${STAND_IN}` })
    await vi.waitFor(() => expect(readFileSync(log, 'utf8')).toMatch(/^rename\n/m), 30_000)
    held.kill('SIGKILL')
    await once(held, 'close')
    // The file before it has its name, then the folder that has the name.
    expect(readFileSync(log, 'utf8')).toMatch(
      /^sync \S+\/making-\w+\/(compile-\w+\.hef)\nreplace (\S+)\/\1\nsync \2\n/m,
    )
    expect(readdirSync(run.models)).toEqual([expect.stringMatching(/^\.1\.1\.0\./)])
    expect(versionsIn(run.models)).toEqual([])

    const { code, stderr } = await run.compile()
    expect(stderr).toContain('compile: as before')
    expect(code).toBe(0)
    expect(versionsIn(run.models)).toEqual(['1.1.0'])
  })

  test('refuses what is wrong, in a line of words', async () => {
    const run = new CompileRun()
    const cases: Record<string, [Record<string, string>, RegExp]> = {
      'too few windows': [calibration(run, recorded(63)), /63 windows, expected 64 or more/],
      'half a window': [
        calibration(run, recorded(64).subarray(4)),
        /float32\[57599\], expected \[windows, 100, 9\]/,
      ],
      'a window that is no number': [
        calibration(run, windowsWith(Number.NaN, 3)),
        /window 1, row 2, channel 3 is nan, expected -35 to 35/,
      ],
      ...Object.fromEntries(
        SENSORS.map(({ name, limit }, sensor) => [
          `beyond the ${name}`,
          [
            calibration(run, windowsWith(-limit * 1.001, sensor * 3 + 2)),
            new RegExp(`window 1, row 2, channel ${sensor * 3 + 2} is .*, expected -${limit} to ${limit} in`),
          ],
        ]),
      ),
      'no windows': [{ '--calibration': '/nowhere.npy' }, /nowhere\.npy: cannot be read/],
      'half a number': [calibration(run, recorded(64).subarray(1)), /\.f32: cannot be read/],
      'an empty npy': [calibration(run, '', 'npy'), /\.npy: cannot be read/],
      'no npy': [calibration(run, 'PK\x03\x04', 'npy'), /\.npy: cannot be read/],
      'an npy cut off': [calibration(run, npy(recorded(63), 64), 'npy'), /\.npy: cannot be read/],
      'an npy of nonsense': [calibration(run, npy(recorded(64), 64, '("'), 'npy'), /\.npy: cannot be read/],
      ...Object.fromEntries(
        ["'?'", "'<i4'", "'<c8'", "[('a', '<f4')]"].map(type => [
          `an npy of ${type}`,
          [
            calibration(run, npy(Buffer.alloc(64 * 900 * 8), 64, type), 'npy'),
            /its numbers are .*, expected float32/,
          ],
        ]),
      ),
      'no manifest': [{ '--onnx': '/nowhere/model.onnx' }, /\/nowhere\/model\.json: cannot be read/],
      'a manifest that is no JSON': [release(run, { 'model.json': '{' }), /model\.json: not JSON/],
      'a manifest that is a list': [
        release(run, { 'model.json': '[]' }),
        /name is nothing, expected a text; norm/,
      ],
      'a manifest with a list of files': [
        release(run, {}, { files: ['model.onnx'] }),
        /model\.json: files is \['model\.onnx'\], expected sha256 of each/,
      ],
      'a motif head without a file': [
        release(run, {}, { motif_head: {} }),
        /motif_head is \{\}, expected with its file/,
      ],
      'a z-score of 0': [
        release(run, {}, { normalization: { mean: Array(9).fill(0), std: Array(9).fill(0) } }),
        /normalization\.std is \[0, .*, expected 9 numbers above 0/,
      ],
      'a served name outside': [
        release(run, {}, { served_name: '../evil' }),
        /is '\.\.\/evil', expected letters/,
      ],
      'a name that is hidden': [
        release(run, {}, { served_name: undefined, name: '.evil' }),
        /is '\.evil', expected/,
      ],
      'a motif head outside': [
        release(run, {}, { motif_head: { file: '../windows.f32' } }),
        /files does not list \.\.\/windows\.f32, /,
      ],
      'golden files that are not listed': [
        release(run, { 'golden_latent.f32': null, 'golden_windows.f32': null }),
        /files does not list golden_windows\.f32, golden_latent\.f32, /,
      ],
      'a listed file that is not there': [
        release(run, {}, { files: { ...MANIFEST.files, 'golden_extra.u8': { sha256: '0' } } }),
        /golden_extra\.u8: cannot be read/,
      ],
      'an ONNX of another release': [
        release(run, { 'model.onnx': 'other' }, { files: MANIFEST.files }),
        /model\.onnx: sha256 \w{64}, expected \w{64}/,
      ],
      'other golden windows': [
        release(run, { 'golden_latent.f32': 'other' }, { files: MANIFEST.files }),
        /golden_latent\.f32: sha256 \w{64}/,
      ],
      'empty golden files': [
        release(run, { 'golden_windows.f32': '', 'golden_latent.f32': '', 'golden_motif_probs.f32': '' }),
        /have \[0, 0, 0\] rows/,
      ],
      'a golden window too few': [
        release(run, { 'golden_windows.f32': shipped('golden_windows.f32').subarray(3600) }),
        /have \[63, 64, 64\] rows/,
      ],
      'golden files cut off': [
        release(run, { 'golden_latent.f32': shipped('golden_latent.f32').subarray(2) }),
        /golden_latent\.f32: 16382 bytes, expected rows of 64 /,
      ],
      'golden scores that are no numbers': [
        release(run, { 'golden_motif_probs.f32': Buffer.alloc(64 * 12 * 4, 0xff) }),
        /golden_motif_probs\.f32: not all are finite/,
      ],
      'a motif head too short': [
        release(run, { 'motif_head.f32': shipped('motif_head.f32').subarray(4) }),
        /motif_head\.f32: 3116 bytes, expected rows of 780 /,
      ],
      'no motif head in its file': [
        release(run, { 'motif_head.f32': '' }),
        /motif_head\.f32: 0 layers, expected one/,
      ],
      'a configuration that is not UTF-8': [config(run, Buffer.from('# \xb5T', 'latin1')), /yaml: not YAML/],
      'one end node that is no list': [
        configWith(run, '[/mu/Gemm]', '/mu/Gemm'),
        /network is .*'end_nodes': '\/mu\/Gemm'.*, expected two names, and lists input_shape and end_nodes/,
      ],
      'no end nodes': [configWith(run, '[/mu/Gemm]', '[]'), /network is .*'end_nodes': \[\]/],
      'a shape in words': [configWith(run, '[1, 9, 1, 100]', '[1, 9, 1, all]'), /network is .*'all'/],
      'a start node of another graph': [
        configWith(run, '/stem/Conv', '/first/Conv'),
        /cannot be parsed by .*'start_node': '\/first\/Conv'.*'end_nodes': .*: ValueError: no node \/first\/Conv/,
      ],
      'a shape of too few': [
        configWith(run, '[1, 9, 1, 100]', '[9, 100]'),
        /cannot be parsed by .*\(9, 100\)/,
      ],
      'a model script that is no list': [
        configWith(run, 'model_script:\n  -', 'model_script:'),
        /model_script is 'model_opt.*', expected a list of lines/,
      ],
      'a model script of another language': [
        configWith(run, 'model_optimization_flavor(optimization_level=0, compression_level=0)', 'fast'),
        /model_script \['fast'\] cannot be read: ValueError: no command/,
      ],
      'a version outside': [{ '--version': '../1.1.0' }, /is no name of a version/],
      'versions in a file': [
        { '--out': run.file('models.txt', '') },
        /models\.txt cannot be a folder of versions/,
      ],
    }
    const ended = await run.compileEach(Object.values(cases).map(([options]) => options))
    const saidOf = Object.fromEntries(Object.keys(cases).map((name, index) => [name, ended[index]]))
    expect(saidOf).toEqual(
      Object.fromEntries(
        Object.entries(cases).map(([name, [, words]]) => [
          name,
          {
            code: 1,
            stderr: expect.stringMatching(new RegExp(`^(\\w+: \\.{3}\\n)*compile: .*${words.source}.*\\n$`)),
          },
        ]),
      ),
    )
    expect(readdirSync(run.models)).toEqual([])
  })

  test('names versions as the engine does, and says how it is used', async () => {
    const run = new CompileRun()
    const names = ['1.1.0', 'v2_b+8l', '.hidden', 'current', 'history', 'lost+found', 'é', 'a'.repeat(65)]
    const check = 'import sys; from hailo_compile.version import folder_for; from pathlib import Path'
    const script = `${check}\nfor name in sys.argv[1:]:\n  try: folder_for(Path('${run.models}'), name); print(name)\n  except Exception: pass`
    const env = { PYTHONPATH: COMPILER_FOLDER, PYTHONDONTWRITEBYTECODE: '1', PYTHONIOENCODING: 'utf8' }
    const { stdout } = await runProgram(PYTHON!, ['-c', script, ...names], env)
    expect(stdout.trim().split('\n')).toEqual(names.filter(isVersionName))

    expect((await runProgram(ENTRYPOINT, ['--help'], env)).stdout).toMatch(
      /--onnx ONNX[\s\S]*Exit code: 0 published/,
    )
    const { code, stderr } = await runProgram(
      PYTHON!,
      [join(COMPILER_FOLDER, 'compile.py'), '--arch', 'hailo15'],
      env,
    )
    expect([code, stderr]).toEqual([64, expect.stringContaining('invalid choice')])
  })

  test('is read by Python 3.10, which the image has', async () => {
    const files = readdirSync(COMPILER_FOLDER, { recursive: true, encoding: 'utf8' }).filter(name =>
      /\.py$/.test(name),
    )
    expect(files.length).toBeGreaterThan(5)
    const script =
      'import ast, sys\nfor path in sys.argv[1:]: ast.parse(open(path).read(), path, feature_version=(3, 10))'
    const { code, stderr } = await runProgram(PYTHON!, [
      '-c',
      script,
      ...files.map(name => join(COMPILER_FOLDER, name)),
    ])
    expect([code, stderr]).toEqual([0, ''])
  })
})

/** The mean of each channel of the first recorded windows, z-scored, to three places. */
function zScoredMeans(count: number): unknown[] {
  const raw = new Float32Array(Uint8Array.from(recorded(count)).buffer)
  const { mean, std } = MANIFEST.normalization
  return mean.map((center: number, channel: number) => {
    const values = raw.filter((_, at) => at % mean.length === channel)
    const average = values.reduce((sum, value) => sum + value, 0) / values.length
    return expect.closeTo((average - center) / std[channel], 2)
  })
}

/** What the int8 network answers to the golden windows: latent, then motif scores. */
function int8Answers(): Float32Array[] {
  const { tensors } = JSON.parse(readFileSync(join(SHIPPED_MODEL_FOLDER, 'model.int8.json'), 'utf8'))
  const { scale, zero_point } = tensors.latent
  const quantised = readFileSync(join(SHIPPED_MODEL_FOLDER, 'golden_int8_latent_q.u8'))
  const head = new Float32Array(
    Uint8Array.from(readFileSync(join(SHIPPED_MODEL_FOLDER, 'motif_head.f32'))).buffer,
  )
  return Array.from({ length: GOLDEN.count }, (_, window) => {
    const output = new Float32Array(LATENT_DIMS + MOTIF_COUNT)
    for (let dim = 0; dim < LATENT_DIMS; dim++) {
      output[dim] = (quantised[window * LATENT_DIMS + dim]! - zero_point) * scale
    }
    const logits = Float32Array.from({ length: MOTIF_COUNT }, (_, motif) => {
      const weights = head.subarray(motif * LATENT_DIMS, (motif + 1) * LATENT_DIMS)
      return weights.reduce(
        (sum, weight, dim) => sum + weight * output[dim]!,
        head[MOTIF_COUNT * LATENT_DIMS + motif]!,
      )
    })
    softmax(logits, output.subarray(LATENT_DIMS))
    return output
  })
}

/** Misses of an answer whose best motif is the second best of the trained model, which that puts `margin` behind. */
function missesAt(backend: 'hailo' | 'onnx', margin: number): number {
  const scores = Float32Array.of(0.5 + margin / 2, 0.5 - margin / 2)
  const golden: GoldenVectors = {
    count: 1,
    windows: new Float32Array(WINDOW_VALUES),
    latents: new Float32Array(LATENT_DIMS).fill(1),
    motifScores: scores,
  }
  const parity = Parity.of(backend, golden)!
  parity.add(Float32Array.of(...golden.latents, ...scores.toReversed()), 0)
  return parity.topMotifMisses
}

function calibration(run: CompileRun, windows: Uint8Array | string, suffix = 'f32'): Record<string, string> {
  return { '--calibration': run.file(`${randomUUID()}.${suffix}`, windows) }
}

/** Windows at the limits of all sensors, but for one value. */
function windowsWith(value: number, channel: number): Buffer {
  const limits = SENSORS.flatMap(({ limit }) => [limit, -limit, limit])
  const windows = Float32Array.from({ length: 64 * WINDOW_VALUES }, (_, at) => limits[at % CHANNELS]!)
  windows[(TIMESTEPS + 2) * CHANNELS + channel] = value
  return Buffer.from(windows.buffer)
}

function config(run: CompileRun, content: string | Uint8Array): Record<string, string> {
  return { '--config': run.file(`${randomUUID()}.yaml`, content) }
}

function configWith(run: CompileRun, find: string, replacement: string): Record<string, string> {
  expect(CONFIG).toContain(find)
  return config(run, CONFIG.replace(find, replacement))
}

/**
 * The model that ships, with other files, listed as they are, and another manifest.
 * @param files null: it is not there
 */
function release(
  run: CompileRun,
  files: Record<string, string | Uint8Array | null>,
  manifest: object = {},
): Record<string, string> {
  const folder = mkdtempSync(join(run.folder, 'release-'))
  const listed = structuredClone(MANIFEST.files)
  for (const name of Object.keys(listed)) copyFileSync(join(SHIPPED_MODEL_FOLDER, name), join(folder, name))
  for (const [name, content] of Object.entries(files)) {
    rmSync(join(folder, name), { force: true })
    delete listed[name]
    if (content === null) continue
    writeFileSync(join(folder, name), content)
    listed[name] = { bytes: content.length, sha256: sha256Of(content) }
  }
  if (!('model.json' in files)) {
    writeFileSync(join(folder, 'model.json'), JSON.stringify({ ...MANIFEST, files: listed, ...manifest }))
  }
  return { '--onnx': join(folder, 'model.onnx') }
}

function shipped(name: string): Buffer {
  return readFileSync(join(SHIPPED_MODEL_FOLDER, name))
}

function sha256Of(content: string | Uint8Array): string {
  return createHash('sha256').update(content).digest('hex')
}

/** A file of NumPy: [count][100][9]. */
function npy(values: Buffer, count: number, type = "'<f4'"): Buffer {
  const header = `{'descr': ${type}, 'fortran_order': False, 'shape': (${count}, 100, 9), }`.padEnd(117)
  return Buffer.concat([
    Buffer.from('\x93NUMPY\x01\x00', 'latin1'),
    Buffer.from([118, 0]),
    Buffer.from(`${header}\n`),
    values,
  ])
}
