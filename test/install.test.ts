import { execFileSync, spawnSync } from 'node:child_process'
import { existsSync, readFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { resolve } from 'node:path'
import { compileFunction } from 'node:vm'
import { expect, test } from 'vitest'

interface LockedPackage {
  readonly version?: string
  readonly resolved?: string
  readonly integrity?: string
  readonly link?: boolean
  readonly dependencies?: Record<string, string>
  readonly optionalDependencies?: Record<string, string>
}
const LOCKED: Record<string, LockedPackage> = JSON.parse(readFileSync('package-lock.json', 'utf8')).packages
const FOR_NODE_24 = LOCKED['vendor/uWebSockets.js']!.optionalDependencies!['@uwsjs/linux-x64-24']
const OPTIONAL = Object.entries(LOCKED).flatMap(([by, { optionalDependencies }]) =>
  Object.keys(optionalDependencies ?? {}).map(name => ({ by, name })),
)

// Debian's npm 9 cannot read an override of what is not in the registry, and hyper-express asks for it by a git address.
test('the lock file alone says that hyper-express gets uWebSockets.js from here, so that every npm can read it', () => {
  expect(LOCKED['node_modules/hyper-express']?.dependencies).not.toHaveProperty('uWebSockets.js')
  expect(LOCKED['node_modules/uWebSockets.js']).toMatchObject({
    resolved: 'vendor/uWebSockets.js',
    link: true,
  })
  expect(JSON.parse(readFileSync('package.json', 'utf8'))).not.toHaveProperty('overrides')
  expect(readFileSync('package-lock.json', 'utf8')).not.toMatch(/git\+|github:/)
})

// npm leaves out of the lock file what the machine that writes it cannot see.
test('the lock file holds every optional dependency that it names', () => {
  expect(OPTIONAL.length).toBeGreaterThan(70)
  expect(OPTIONAL.filter(({ name }) => LOCKED[`node_modules/${name}`]?.version === undefined)).toEqual([])
})

test('the lock file holds for linux arm64 what it holds for linux x64', () => {
  const needed = OPTIONAL.filter(({ name }) => name.includes('linux-x64') && !name.includes('musl'))
    // Node 24 on arm64 is not supported: uws-pack serves Node 20 and 22 there.
    .filter(({ name }) => name !== '@uwsjs/linux-x64-24')
    .map(({ by, name }) => ({ by, name: name.replace('x64', 'arm64') }))
  expect(needed).toHaveLength(5)
  expect(OPTIONAL).toEqual(expect.arrayContaining(needed))
})

test.each([
  'uws-pack/dist/bin/uws_linux_arm64_115.node', // Node 20
  'uws-pack/dist/bin/uws_linux_arm64_127.node', // Node 22
  'onnxruntime-node/bin/napi-v6/linux/arm64/onnxruntime_binding.node',
  'onnxruntime-node/bin/napi-v6/linux/arm64/libonnxruntime.so.1',
])('the package for every platform brings linux arm64 along: %s', binary => {
  expect(existsSync(`node_modules/${binary}`)).toBe(true)
})

test('the lock file names no host, so that npm ci works with any registry, and a hash for everything', () => {
  const packages = Object.entries(LOCKED)
  const hosted = packages.filter(([, { resolved }]) => resolved !== undefined && /^[\w+]+:|@/.test(resolved))
  expect(hosted.map(([path]) => path)).toEqual([])
  const installed = packages.filter(([path, { link }]) => path.startsWith('node_modules/') && !link)
  expect(installed.filter(([, { integrity }]) => integrity === undefined)).toEqual([])
  expect(readFileSync('.npmrc', 'utf8')).toMatch(/^omit-lockfile-registry-resolved=true$/m)
})

test('install scripts that download or report are switched off for every npm', () => {
  expect(readFileSync('.npmrc', 'utf8')).toMatch(/^onnxruntime-node-install=skip$/m)
  const { allowScripts, scarfSettings } = JSON.parse(readFileSync('package.json', 'utf8'))
  expect(allowScripts).toEqual({ 'onnxruntime-node': false, '@scarf/scarf': false })
  expect(scarfSettings).toEqual({ enabled: false })
})

test('uWebSockets.js loads the binary that fits this Node.js', () => {
  const script = 'process.stdout.write(typeof require("uWebSockets.js").App)'
  expect(execFileSync(process.execPath, ['-e', script], { encoding: 'utf8' })).toBe('function')
})

test.each([
  ['20.19.0', '115', 'x64', 'uws_linux_x64_115.node'],
  ['20.19.0', '115', 'arm64', 'uws_linux_arm64_115.node'],
  ['22.12.0', '127', 'arm64', 'uws_linux_arm64_127.node'],
  ['24.0.0', '137', 'x64', '@uwsjs/linux-x64-24'],
])('uWebSockets.js on Node.js %s (ABI %s) on linux %s is %s', (node, modules, arch, binary) => {
  const { asked } = loadUWebSockets({ node, modules, arch, glibc: '2.41' })
  expect(asked === binary || asked.endsWith(`/uws-pack/dist/bin/${binary}`)).toBe(true)
})

test.each([
  [
    'Node.js 26.1.0 on linux x64: use Node.js 20.19, 22 or 24 and run npm ci with it.',
    { node: '26.1.0', arch: 'x64', glibc: '2.41' },
  ],
  [
    'Node.js 24.0.0 on linux x64: use Node.js 20.19 or 22 and run npm ci with it.',
    { node: '24.0.0', arch: 'x64', glibc: '2.36' },
  ],
  [
    'Node.js 24.0.0 on linux arm64: use Node.js 20.19 or 22 and run npm ci with it.',
    { node: '24.0.0', arch: 'arm64', glibc: '2.41' },
  ],
  [
    'Node.js 22.12.0 on linux arm64: use a system with glibc 2.27 or newer, this one has 2.26.',
    { node: '22.12.0', arch: 'arm64', glibc: '2.26' },
  ],
  [
    'Node.js 22.12.0 on linux x64: use a Linux with glibc, such as Debian or Ubuntu.',
    { node: '22.12.0', arch: 'x64' },
  ],
  [
    'Node.js 26.1.0 on darwin arm64: use Node.js 20.19 or 22 and run npm ci with it.',
    { node: '26.1.0', arch: 'arm64', platform: 'darwin' },
  ],
  ['Node.js 24.0.0 on linux x64: run npm ci.', { node: '24.0.0', arch: 'x64', glibc: '2.41' }],
  [
    `Node.js 24.0.0 on linux x64: run npm install @uwsjs/linux-x64-24@${FOR_NODE_24}.`,
    { node: '24.0.0', arch: 'x64', glibc: '2.41', folder: '/app/node_modules/uWebSockets.js' },
  ],
  [
    'Node.js 24.0.0 on linux arm64: use Node.js 20.19 or 22.',
    { node: '24.0.0', arch: 'arm64', glibc: '2.41', folder: '/app/node_modules/uWebSockets.js' },
  ],
])('without a binary that fits, uWebSockets.js says what to do: %s', (sentence, system) => {
  expect(loadUWebSockets(system).error).toMatchObject({
    message: `No uWebSockets.js binary fits ${sentence}`,
    code: 'ERR_NO_UWEBSOCKETS_BINARY',
    cause: new Error('no such binary'),
  })
})

test('a start without a binary that fits ends with its sentence and code, before there is a thread to interrupt', () => {
  const preload = `
    import module from 'node:module'
    import threads from 'node:worker_threads'
    const load = module._load
    module._load = function (id, ...more) {
      if (/uws_linux|@uwsjs/.test(id)) throw new Error('no such binary')
      return load.call(this, id, ...more)
    }
    threads.Worker = class { constructor() { process.stderr.write('a thread') } }
    module.syncBuiltinESMExports()`
  const { status, stderr } = spawnSync(
    process.execPath,
    ['--import', `data:text/javascript,${encodeURIComponent(preload)}`, 'dist/src/main.js'],
    { encoding: 'utf8', env: {} },
  )
  expect(stderr).toMatch(/^hailo-inference cannot start:\nNo uWebSockets\.js binary fits [^\n]+\n$/)
  expect(status).toBe(1)
})

/** Loads vendor/uWebSockets.js as if on another system, where every binary is missing. */
function loadUWebSockets(system: {
  node: string
  modules?: string
  platform?: string
  arch: string
  glibc?: string
  folder?: string
}): { asked: string; error: unknown } {
  const {
    node,
    modules = '999',
    platform = 'linux',
    arch,
    glibc,
    folder = resolve('vendor/uWebSockets.js'),
  } = system
  const path = 'vendor/uWebSockets.js/index.cjs'
  const real = createRequire(import.meta.url)
  let asked = ''
  const require = (id: string) => {
    if (id.startsWith('node:')) return real(id)
    asked = id
    throw new Error('no such binary')
  }
  require.resolve = real.resolve
  const report = { getReport: () => ({ header: { glibcVersionRuntime: glibc } }) }
  const process = { platform, arch, versions: { node, modules }, report }
  const load = compileFunction(readFileSync(path, 'utf8'), ['process', 'require', 'module', '__dirname'], {
    filename: path,
  })
  try {
    load(process, require, { exports: {} }, folder)
  } catch (error) {
    return { asked, error }
  }
  throw new Error('a binary was loaded')
}
