import { readdirSync, readFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { expect, test } from 'vitest'

/** What the start finds out and hands on: others know its shape, not how it came about. */
const FACTS = ['type src/config.ts', 'type src/model.ts', 'type src/served-models.ts', 'type src/log.ts']

/** Which files of the project a file may import besides those beside it. The last row that fits a file counts. */
const ARROWS: readonly [place: string, mayImport: readonly string[]][] = [
  ['src/main.ts', ['src/hangup.ts', 'src/start.ts', 'src/supervisor/']],
  [
    'src/start.ts',
    [
      'src/config.ts',
      'src/engine/threads.ts',
      'src/assemble.ts',
      'src/http/server.ts',
      'src/clock.ts',
      'src/no-telemetry.ts',
      'src/supervisor/systemd.ts',
    ],
  ],
  ['src/assemble.ts', ['src/']],
  ['src/failure-log.ts', ['src/engine/', 'src/clock.ts', 'type src/log.ts', 'type src/http/reply.ts']],
  ['src/witnesses.ts', ['src/']],
  [
    'src/metrics.ts',
    [
      'src/metrics/',
      'src/engine/',
      'src/core/',
      'src/clock.ts',
      'src/tally.ts',
      'src/telemetry/counters.ts',
      ...FACTS,
    ],
  ],
  ['src/served-models.ts', ['src/core/', ...FACTS]],
  ['src/reloading.ts', ['src/']],
  // The thread that reads a model knows src/model.ts; the rest of the folder, what it is given.
  ['src/reload/', ['src/engine/', 'src/clock.ts', ...FACTS]],
  ['src/reload/model-loader.ts', ['src/reload/', 'src/core/', ...FACTS]],
  ['src/reload/load-thread.ts', ['src/reload/', 'src/model.ts']],
  [
    'src/metrics/',
    ['src/engine/', 'src/core/', 'src/clock.ts', 'src/tally.ts', 'src/telemetry/counters.ts', ...FACTS],
  ],
  ['src/metrics/life.ts', ['src/metrics/', 'src/supervisor/life-record.ts']],
  ['src/metrics/reload.ts', ['src/metrics/', 'src/reload/outcome.ts', ...FACTS]],
  ['src/shutdown.ts', ['src/']],
  ['src/service-report.ts', ['src/']],
  ['src/tally.ts', []],
  ['src/model.ts', ['src/artifacts/current.ts', 'src/core/', 'src/hef/', 'type src/config.ts']],
  ['src/artifacts/', ['src/core/', 'type src/config.ts']],
  // It runs the model as a worker would.
  [
    'src/artifacts/verify.ts',
    ['src/artifacts/', 'src/config.ts', 'src/core/', 'src/model.ts', 'workers/backends/onnx.ts'],
  ],
  ['src/config.ts', ['src/config/', 'src/core/', 'src/project.ts']],
  ['src/config/', ['src/core/']],
  ['src/config/document.ts', ['src/config/', 'src/config.ts']],
  ['src/certificate.ts', ['type src/config.ts']],
  ['src/project.ts', []],
  ['src/clock.ts', []],
  ['src/hangup.ts', []],
  ['src/no-telemetry.ts', []],
  ['src/log.ts', []],
  ['src/live/', ['src/engine/', 'src/core/', 'src/clock.ts', 'src/tally.ts']],
  ['src/http/', ['src/engine/', 'src/core/', 'src/live/', 'src/clock.ts', ...FACTS]],
  ['src/http/service.ts', ['src/http/', 'src/engine/', 'src/live/', 'src/reload/outcome.ts', ...FACTS]],
  ['src/http/schema.ts', ['src/http/', 'src/core/', 'src/reload/outcome.ts', ...FACTS]],
  ['src/http/page.ts', ['src/http/', 'src/core/', 'src/project.ts']],
  [
    'src/http/server.ts',
    ['src/http/', 'src/certificate.ts', 'src/engine/', 'src/core/', 'src/live/', 'src/clock.ts', ...FACTS],
  ],
  ['src/http/certificate-watch.ts', ['src/certificate.ts', ...FACTS]],
  ['src/http/codec.ts', ['src/core/', 'native/codec.ts']],
  ['src/engine/', ['src/core/', 'src/clock.ts']],
  ['src/tracing/', ['src/engine/', 'src/core/', 'src/clock.ts', ...FACTS]],
  ['src/telemetry/', ['src/engine/', 'src/core/', 'src/clock.ts', 'src/config.ts', 'type src/log.ts']],
  ['src/supervisor/', ['src/core/', 'src/clock.ts', 'src/log.ts', 'native/exit.ts']],
  ['src/core/', []],
  ['src/hef/', ['src/core/']],
  ['src/cli/', ['src/hef/', 'src/project.ts']],
  ['src/cli/doctor.ts', ['src/doctor/']],
  ['src/cli/artifacts.ts', ['src/artifacts/', 'src/no-telemetry.ts', 'src/project.ts']],
  ['src/cli/al.ts', ['src/telemetry/', 'src/core/window.ts']],
  // It tries what a start does, the device included, each in a process of its own.
  [
    'src/doctor/',
    [
      'src/config.ts',
      'src/config/workers.ts',
      'src/certificate.ts',
      'src/model.ts',
      'src/hef/',
      'src/no-telemetry.ts',
      'src/project.ts',
      'native/',
    ],
  ],
  ['workers/', ['workers/backends/', 'src/core/', 'src/clock.ts']],
  ['workers/backends/', ['src/core/', 'src/clock.ts']],
  // It writes what src/telemetry/ takes down on the main thread.
  ['workers/telemetry/', ['workers/backends/', 'src/telemetry/', 'src/core/', 'src/clock.ts']],
  // Of HailoRT one backend alone knows, and what is refused before HailoRT sees it.
  [
    'workers/backends/hailo.ts',
    ['workers/backends/', 'src/core/', 'native/index.ts', 'src/hef/architecture.ts', 'src/hef/error.ts'],
  ],
  ['native/', ['src/project.ts']],
  ['bench/', ['src/project.ts', 'src/http/frame.ts', 'native/build.ts', 'client/']],
  // Its generator is compiled when it is asked for.
  ['bench/load/', ['bench/', 'src/project.ts', 'src/http/frame.ts', 'native/build.ts']],
  // Their servers have the workers of the tests, which take their time, or fail, on order.
  ['bench/suites/tenfold.ts', ['bench/', 'src/project.ts', 'src/core/window.ts', 'test/faults/faults.ts']],
  [
    'bench/soak/',
    [
      'bench/',
      'src/artifacts/',
      'src/project.ts',
      'src/http/frame.ts',
      'native/build.ts',
      'client/',
      'test/random.ts',
      'test/faults/faults.ts',
    ],
  ],
  // Servers that are made of our parts, in other ways too.
  ['bench/contenders/', ['src/', 'workers/']],
  ['bench/peers/', ['bench/contenders/', 'src/core/window.ts', 'src/project.ts']],
  ['bench/micro/', ['bench/contenders/', 'src/', 'native/codec.ts']],
  ['bench/suites/programs/', ['bench/', 'src/']],
  ['bench/report/', ['src/project.ts']],
  // Measures the parts below the front door one by one.
  [
    'bench/device/',
    [
      'bench/',
      'src/engine/',
      'src/core/',
      'src/clock.ts',
      'src/config.ts',
      'src/model.ts',
      'src/project.ts',
      'native/',
    ],
  ],
  ['packaging/', ['native/build.ts', 'src/project.ts']],
  ['page/', ['src/project.ts']],
  // In browsers: of the server it knows what it tells, and the client.
  ['page/app/', ['client/index.ts', 'src/live/answer.ts', 'src/core/window.ts']],
  // Runs in browsers too: of the server it knows the bytes on the wire, and nothing else.
  ['client/', ['src/http/frame.ts', 'src/http/stream-words.ts', 'src/core/window.ts', 'src/core/backend.ts']],
  ['packaging/compose-variables.ts', ['type src/config/example.ts']],
  ['packaging/env-docs.ts', ['packaging/', 'src/config/', 'src/project.ts']],
]

/** Where each package may be imported. */
const PACKAGES: Record<string, string | string[]> = {
  '@opentelemetry/api': 'src/tracing/',
  '@opentelemetry/core': 'src/tracing/',
  '@opentelemetry/exporter-trace-otlp-http': 'src/tracing/',
  '@opentelemetry/resources': 'src/tracing/',
  '@opentelemetry/sdk-trace-base': 'src/tracing/',
  'hyper-express': ['src/http/', 'bench/contenders/naive.ts'],
  // The start only looks whether it is there.
  'uWebSockets.js': ['src/http/', 'src/start.ts', 'src/doctor/probes.ts', 'bench/contenders/'],
  fastify: 'bench/contenders/fastify.ts',
  negotiator: 'src/http/accept.ts',
  piscina: ['src/engine/threads.ts', 'bench/contenders/'],
  'onnxruntime-node': [
    'workers/backends/onnx.ts',
    'src/doctor/probes.ts',
    'bench/contenders/',
    'bench/suites/programs/model-only.ts',
  ],
  'prom-client': ['src/metrics/registry.ts', 'src/tally.ts'],
  'protobufjs/light.js': 'src/hef/schema.ts',
  'hash-wasm': 'src/hef/container.ts',
  pino: 'src/log.ts',
  tinybench: 'bench/micro/micro.ts',
  'playwright-core': 'page/chromium.ts',
  rolldown: 'page/build.ts',
  'typed-binary': 'src/http/frame.ts',
  uplot: 'page/app/',
  yaml: 'src/config/gather.ts',
  zod: 'src/',
}

const FILES = ['src', 'workers', 'native', 'bench', 'client', 'packaging', 'page'].flatMap(folder =>
  readdirSync(folder, { recursive: true, encoding: 'utf8' })
    .filter(name => name.endsWith('.ts'))
    .map(name => join(folder, name)),
)
const IMPORTS = FILES.flatMap(importsOf)

test('every import follows the arrows: main → http, metrics → engine → core ← workers → backends', () => {
  expect(FILES.length).toBeGreaterThan(30)
  expect(IMPORTS.length).toBeGreaterThan(100)
  const astray = IMPORTS.filter(({ file, target, type }) => {
    if (!isOurs(target)) return false
    const [place, mayImport] = ARROWS.findLast(([place]) => file.startsWith(place)) ?? ['nowhere', []]
    return ![place, ...mayImport].some(
      allowed => target.startsWith(allowed) || (type && `type ${target}`.startsWith(allowed)),
    )
  })
  expect(astray.map(inWords)).toEqual([])
})

test('every package is imported only in its place', () => {
  const astray = IMPORTS.filter(
    ({ file, target }) =>
      !isOurs(target) &&
      !target.startsWith('node:') &&
      ![PACKAGES[target] ?? 'nowhere'].flat().some(place => file.startsWith(place)),
  )
  expect(astray.map(inWords)).toEqual([])
})

test('the core knows no Node.js, no clock and no environment', () => {
  const astray = IMPORTS.filter(({ file, target }) => file.startsWith('src/core/') && !isOurs(target))
  expect(astray.map(inWords)).toEqual([])
  const outside = /\b(process|performance|Date|console|setTimeout|setImmediate|Buffer)\b[.(]/
  expect(FILES.filter(file => file.startsWith('src/core/') && outside.test(codeOf(file)))).toEqual([])
})

test('the client knows no Node.js: what it is made of runs in browsers', () => {
  const client = FILES.filter(file => file.startsWith('client/'))
  const parts = new Set([
    ...client,
    ...IMPORTS.filter(({ file }) => client.includes(file)).map(({ target }) => target),
  ])
  const foreign = IMPORTS.filter(
    ({ file, target }) => parts.has(file) && !isOurs(target) && target !== 'typed-binary',
  )
  expect(foreign.map(inWords)).toEqual([])
  const nodeOnly =
    /\b(process|Buffer|NodeJS|setImmediate|__dirname|__filename|require)\b|\bglobal\.|\.unref\(/
  expect([...parts].filter(file => nodeOnly.test(codeOf(file)))).toEqual([])
  expect(parts).toContain('src/http/frame.ts')
})

test('only what is started by a person reads process.env', () => {
  const readers = FILES.filter(file => /\bprocess\s*\.\s*env\b|\bimport\.meta\.env\b/.test(codeOf(file)))
  expect(readers.sort()).toEqual([
    'native/build.ts',
    'packaging/deb.ts',
    'src/cli/al.ts',
    'src/cli/artifacts.ts',
    'src/cli/doctor.ts',
    'src/main.ts',
    'src/no-telemetry.ts', // writes one for libraries
  ])
})

// What waits, expires or is limited goes by monotonicMs(): people and NTP set the wall clock.
test('the wall clock is read for labels alone', () => {
  const server = FILES.filter(file => /^(src|workers)\//.test(file))
  const readers = server.filter(file => /\bDate\.now\b|\bnew Date\b|\btimeOrigin\b/.test(codeOf(file)))
  expect(readers.sort()).toEqual([
    'src/artifacts/history.ts', // when a version was promoted
    'src/doctor/machine.ts', // when the certificate ends
    'src/hef/hef.ts', // when a HEF was compiled
    'src/http/compat.ts', // last_inference_time
    'src/metrics.ts', // the same, and the time of the start
    'src/metrics/process.ts', // the time of the start
    'src/reload/reloader.ts', // when the last model came
    'src/supervisor/life-record.ts', // starts of earlier processes, whose monotonic clocks nobody has
    'src/telemetry/folder.ts', // the day that a folder is named after
    'src/tracing/wall-clock.ts', // the times of spans
    'workers/telemetry/lines.ts', // the time of an answer
    'workers/telemetry/main.ts', // the same, by one offset for all
  ])
  const native = ['shim', 'codec', 'exit', 'soft'].flatMap(folder =>
    readdirSync(join('native', folder)).map(name => join('native', folder, name)),
  )
  const ofTheWall = /system_clock|CLOCK_REALTIME|gettimeofday|\btime\(/
  expect(native.length).toBeGreaterThan(20)
  expect(native.filter(file => /\.(cc|h)$/.test(file) && ofTheWall.test(readFileSync(file, 'utf8')))).toEqual(
    [],
  )
})

interface Import {
  readonly file: string
  /** A path from the project's folder, or a package. */
  readonly target: string
  readonly type: boolean
}

function importsOf(file: string): Import[] {
  const statements = codeOf(file).matchAll(
    /(?:^(?:import|export)( type)?\b(?:[^'"=(]*?\bfrom)?\s*|\b(?:import|require)\()'([^']+)'/gm,
  )
  return [...statements].map(([, type, specifier]) => ({
    file,
    target: specifier!.startsWith('.') ? join(dirname(file), specifier!) : specifier!,
    type: type !== undefined,
  }))
}

function codeOf(file: string): string {
  return readFileSync(file, 'utf8').replace(/\/\*[\s\S]*?\*\/|(?<=^|\s)\/\/.*$/gm, '')
}

function isOurs(target: string): boolean {
  return target.endsWith('.ts')
}

function inWords({ file, target }: Import): string {
  return `${file} imports ${target}`
}
