import { execFile, execFileSync, spawnSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import {
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { promisify } from 'node:util'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { DebianRoot, noDebianRoots } from './root.ts'

const NEXT = '9.8.7'
const TARBALL = `hailo-inference-${NEXT}.tgz`
const WINDOW = 'artifacts/tcn_encoder/1.0.0/golden_windows.f32'
/** Of ELF, e_machine: EM_X86_64 and EM_AARCH64. */
const MACHINES = { x64: 62, arm64: 183 }

describe.skipIf(noDebianRoots() !== null)('a release', () => {
  let project: string
  let root: DebianRoot

  beforeAll(async () => {
    const rooted = DebianRoot.create('trixie', ['nodejs', 'npm', 'curl']).then(made => {
      root = made
    })
    project = mkdtempSync(join(tmpdir(), 'hailo-inference-release-'))
    copyProject(project)
    const changelog = readFileSync(join(project, 'CHANGELOG.md'), 'utf8')
    writeFileSync(
      join(project, 'CHANGELOG.md'),
      changelog.replace('## Unreleased\n', '## Unreleased\n\n- A thing.\n'),
    )
    inProject('git', 'init', '--quiet')
    inProject('git', 'config', 'user.name', 'somebody')
    inProject('git', 'config', 'user.email', 'somebody@example.org')
    writeFileSync(join(project, '.git/info/exclude'), 'node_modules\n') // it is a link here
    inProject('git', 'add', '.')
    inProject('git', 'commit', '--quiet', '--message', 'All')
    const released = promisify(execFile)('npm', ['run', 'release', '--', NEXT, '--commit'], { cwd: project })
    await Promise.allSettled([rooted, released])
    await Promise.all([rooted, released])
    cpSync(join(project, 'release', TARBALL), root.path(`root/${TARBALL}`))
  })

  afterAll(() => {
    root?.close()
    if (project !== undefined) rmSync(project, { recursive: true })
  })

  const inProject = (command: string, ...args: string[]) =>
    execFileSync(command, args, { cwd: project, encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] })

  test('is committed and tagged, with package, SBOM and checksums beside it', () => {
    expect(inProject('git', 'status', '--porcelain')).toBe('')
    expect(inProject('git', 'describe', '--exact-match')).toBe(`v${NEXT}\n`)
    expect(inProject('bash', '-c', 'cd release && sha256sum --check SHA256SUMS')).toContain(
      `${TARBALL}: OK\n`,
    )
    const sbom = JSON.parse(
      readFileSync(join(project, `release/hailo-inference-${NEXT}.sbom.cdx.json`), 'utf8'),
    )
    expect(sbom).toMatchObject({ bomFormat: 'CycloneDX', metadata: { component: { version: NEXT } } })
    const names = sbom.components.map(({ name }: { name: string }) => name)
    expect(names).toContain('onnxruntime-node')
    expect(names).not.toContain('vitest')
  })

  test('comes out the same, byte by byte, when it is packed again', () => {
    const before = sha256(join(project, 'release', TARBALL))
    rmSync(join(project, 'release', TARBALL))
    inProject('npm', 'run', 'package:npm')
    expect(sha256(join(project, 'release', TARBALL))).toBe(before)
  })

  // npm 9 is Debian 13's own, 11 comes with Node.js 24.
  test.each(['npm', 'npx --yes npm@11'])(
    'installs in an empty project with %s, for x64 and arm64, and brings all that it needs',
    async npm => {
      await root.shell(`
        rm -rf app && mkdir app && cd app
        echo '{"name": "app", "version": "1.0.0"}' > package.json
        ${npm} install --no-audit --no-fund ../${TARBALL}`)
      expect(JSON.parse(await root.shell('npm ls --json', { cwd: '/root/app' }))).not.toHaveProperty(
        'problems',
      )
      const installed = 'root/app/node_modules/hailo-inference'
      for (const [arch, machine] of Object.entries(MACHINES)) {
        const binaries = [
          `uws-pack/dist/bin/uws_linux_${arch}_115.node`,
          `uws-pack/dist/bin/uws_linux_${arch}_127.node`,
          `onnxruntime-node/bin/napi-v6/linux/${arch}/onnxruntime_binding.node`,
          `onnxruntime-node/bin/napi-v6/linux/${arch}/libonnxruntime.so.1`,
        ]
        for (const binary of binaries) {
          const path = root.path(join(installed, 'node_modules', binary))
          expect(readFileSync(path).readUInt16LE(18), binary).toBe(machine)
        }
      }
      // No C++ compiler is there, and the install went on without.
      expect(existsSync(root.path(join(installed, 'native/build/codec.node')))).toBe(false)
    },
  )

  // It comes with Node.js 22.
  test('is all that npm 10 would install, but for the binary for Node.js 24', async () => {
    const lock = await root.shell(`
      rm -rf planned && mkdir planned && cd planned
      echo '{"name": "app", "version": "1.0.0"}' > package.json
      npx --yes npm@10 install --package-lock-only --no-audit --no-fund ../${TARBALL} > /dev/null 2>&1
      cat package-lock.json`)
    const fetched = Object.entries<{ inBundle?: boolean }>(JSON.parse(lock).packages)
      .filter(([path, { inBundle }]) => path !== '' && !inBundle)
      .map(([path]) => path.replace(/^.*node_modules\//, ''))
    expect(fetched.sort()).toEqual(['@uwsjs/linux-x64-24', 'hailo-inference'])
  })

  test('answers where it was installed, with nothing else on the network', async () => {
    const answer = await root.shell(
      `
      npx --no-install hailo-inference > log 2>&1 &
      for _ in {1..600}; do curl -fs localhost:9000/readyz > ready && break; sleep 0.1; done
      head -c 3600 node_modules/hailo-inference/${WINDOW} > window
      curl -fsS localhost:9000/infer --data-binary @window -H 'Content-Type: application/octet-stream'
      echo
      curl -fsS localhost:9000/ -H 'Accept: text/html' | grep -c page.js
      npx --no-install hailo-inference-hef node_modules/hailo-inference/artifacts/tcn_encoder/1.0.0/tcn_encoder.soft.hef | head -1
      npx --no-install hailo-inference-artifacts list
      PORT=9001 npx --no-install hailo-inference-doctor | tail -1`,
      { cwd: '/root/app', offline: true },
    )
    const [result = '', page, hef, ...rest] = answer.split('\n')
    expect(JSON.parse(result)).toMatchObject({ latent: expect.any(Array), motif_scores: expect.any(Array) })
    expect(page).toBe('1')
    expect(hef).toContain('tcn_encoder.soft.hef')
    expect(rest.join('\n')).toMatch(/1\.0\.0 +current[\s\S]*0 failed/)
  })

  test('has types for who uses the client', () => {
    const app = root.path('root/app')
    writeFileSync(
      join(app, 'use.ts'),
      `import { InferenceClient } from 'hailo-inference/client'
const client = new InferenceClient('http://localhost:9000')
const { latent } = await client.infer(new Float32Array(900))
export const first: number | undefined = latent[0]
// @ts-expect-error: it has types
client.notThere()
`,
    )
    writeFileSync(join(app, 'package.json'), '{"name": "app", "version": "1.0.0", "type": "module"}')
    const options = ['--noEmit', '--strict', '--module', 'nodenext', '--target', 'es2022', '--types', '']
    const lib = ['--lib', 'es2023,es2024.sharedmemory,dom']
    const tsc = join(process.cwd(), 'node_modules/.bin/tsc')
    const { stdout } = spawnSync(tsc, [...options, ...lib, 'use.ts'], { cwd: app, encoding: 'utf8' })
    expect(stdout).toBe('')
  })
})

/** What a clone would have, with what is installed here. */
function copyProject(to: string): void {
  const listed = execFileSync('git', ['ls-files', '-z', '--cached', '--others', '--exclude-standard'], {
    encoding: 'utf8',
  })
  for (const path of listed.split('\0')) {
    if (path === '' || !existsSync(path)) continue
    mkdirSync(dirname(join(to, path)), { recursive: true })
    cpSync(path, join(to, path))
  }
  symlinkSync(join(process.cwd(), 'node_modules'), join(to, 'node_modules'))
}

function sha256(path: string): string {
  return createHash('sha256').update(readFileSync(path)).digest('hex')
}
