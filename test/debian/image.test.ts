import { execFile, execFileSync, spawnSync } from 'node:child_process'
import { cpSync, mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { promisify } from 'node:util'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { BackendKind } from '../../src/core/backend.ts'
import { Parity } from '../../src/core/golden.ts'
import { SHIPPED_MODEL_FOLDER, VERSION } from '../../src/project.ts'
import { buildNative, SOFT_LIBRARY } from '../native.ts'
import { GOLDEN } from '../windows.ts'
import { DebianRoot, noDebianRoots } from './root.ts'

const why = noDebianRoots() ?? (spawnSync('buildah', ['--version']).status === 0 ? null : 'needs buildah')

/** What `docker run` would heed of an image. */
interface ImageConfig {
  readonly User: string
  readonly Env: readonly string[]
  readonly Entrypoint: readonly string[]
  readonly WorkingDir: string
  readonly StopSignal: string
  readonly ExposedPorts: Readonly<Record<string, object>>
  readonly Labels: Readonly<Record<string, string>>
  readonly Healthcheck: { readonly Test: readonly [string, string] }
}

const CANARY = 'nobody-may-see-this'
const ENGINE = '/usr/lib/hailo-inference'

describe.skipIf(why !== null)('images/runtime/Dockerfile', () => {
  const store = mkdtempSync(join(tmpdir(), 'hailo-inference-images-'))
  let base: DebianRoot
  let config: ImageConfig
  let image: DebianRoot

  beforeAll(async () => {
    base = await DebianRoot.create('trixie')
    await makeBase()
    base.copyProject('/project')
    // What lies in people's folders.
    for (const name of ['.env', 'server.key', 'model.hef', 'artifacts/mine.hef', 'native/build/mine.node']) {
      mkdirSync(dirname(base.path(`/project/${name}`)), { recursive: true })
      writeFileSync(base.path(`/project/${name}`), CANARY)
    }
    await build('engine', ['--build-arg', `VERSION=${VERSION}`])
    config = JSON.parse(await buildah('inspect', '--type', 'image', 'engine')).Docker.config
    image = await mount('engine')
  })
  afterAll(async () => {
    await buildah('umount', '--all')
    rmSync(store, { recursive: true, force: true })
    base.close()
  })

  async function buildah(...args: string[]): Promise<string> {
    const places = ['--root', join(store, 'root'), '--runroot', join(store, 'run')]
    const { stdout } = await promisify(execFile)('buildah', [...places, ...args], {
      maxBuffer: 64 * 1024 * 1024,
    })
    return stdout.trim()
  }

  /** Debian's own image as far as it matters: the fewest packages, and dpkg in a hurry and without manuals. */
  async function makeBase(): Promise<void> {
    const file = join(store, 'Dockerfile')
    const settings = [
      'force-unsafe-io',
      ...['doc', 'man', 'locale'].map(name => `path-exclude /usr/share/${name}/*`),
    ]
    writeFileSync(base.path('/etc/dpkg/dpkg.cfg.d/docker'), `${settings.join('\n')}\n`)
    writeFileSync(
      file,
      'FROM scratch\nCOPY . /\nENV NODE_EXTRA_CA_CERTS=/etc/ssl/certs/ca-certificates.crt\n',
    )
    const tag = 'docker.io/library/debian:trixie-slim'
    await buildah('build', '--isolation', 'chroot', '--tag', tag, '--file', file, base.folder)
  }

  async function build(tag: string, options: readonly string[] = []): Promise<void> {
    const project = base.path('/project')
    const how = ['--isolation', 'chroot', '--pull-never', '--layers=false', '--format', 'docker']
    const file = join(project, 'images', 'runtime', 'Dockerfile')
    await buildah('build', ...how, ...options, '--tag', tag, '--file', file, project)
  }

  async function mount(tag: string): Promise<DebianRoot> {
    const container = await buildah('from', '--pull-never', tag)
    return DebianRoot.in(await buildah('mount', container))
  }

  /** Commands in the image, as its own user with its own environment. */
  function run(lines: string, env: Record<string, string> = {}, readOnly = false): Promise<string> {
    const { Env, WorkingDir: cwd, User: user } = config
    const own = Object.fromEntries(Env.map(setting => setting.split(/=(.*)/s, 2)))
    return image.shell(lines, { env: { ...own, ...env }, cwd, user, offline: true, readOnly })
  }

  /** Starts it as a container would, waits until it is healthy and ready, asks one golden window, and stops it. */
  async function answer(
    backend: BackendKind,
    env: Record<string, string>,
    { readOnly = false } = {},
  ): Promise<Float32Array> {
    const printed = await run(
      `${config.Entrypoint.join(' ')} & server=$!
      until ${config.Healthcheck.Test[1]} 2>/dev/null; do kill -0 $server; sleep 0.1; done
      until curl -fs -o /dev/null localhost:9000/readyz; do kill -0 $server; sleep 0.1; done
      head -c 3600 ${ENGINE}/artifacts/tcn_encoder/1.0.0/golden_windows.f32 |
        curl -fsSi localhost:9000/infer --data-binary @- -H 'Content-Type: application/octet-stream' -H 'X-Deadline-Ms: 5000'
      echo
      kill -${config.StopSignal.slice(3)} $server
      wait $server && echo "ended with $?"`,
      env,
      readOnly,
    )
    expect(printed).toMatch(/^ended with 0$/m)
    expect(printed).toMatch(new RegExp(`^X-Inference-Backend: ${backend}\r$`, 'im'))
    const { latent, motif_scores } = JSON.parse(/^\{"latent".*$/m.exec(printed)![0])
    return Float32Array.of(...latent, ...motif_scores)
  }

  function isGolden(backend: BackendKind, result: Float32Array): boolean {
    const parity = Parity.of(backend, GOLDEN)!
    parity.add(result, 0)
    return parity.holds
  }

  test('it says who runs, how to ask whether it is well, and which release it is', () => {
    expect(config).toMatchObject({
      User: '1000:1000',
      Entrypoint: ['hailo-inference'],
      StopSignal: 'SIGTERM',
      ExposedPorts: { '9000/tcp': {} },
      Labels: { 'org.opencontainers.image.version': VERSION },
    })
    expect(config.Env).toContain('FASTAPI_HOST=0.0.0.0')
  })

  test('as 1000:1000 in a root that nobody can write to, it answers as the trained model does, and drains', async () => {
    expect(isGolden('onnx', await answer('onnx', {}, { readOnly: true }))).toBe(true)
    await answer('stub', { INFER_MODE: 'stub' }, { readOnly: true })
    await expect(run('touch /tmp/a', {}, true)).rejects.toThrow('Read-only file system')
  })

  test('its folder for state is its own', async () => {
    await answer('stub', { INFER_MODE: 'stub' })
    expect(readdirSync(image.path('/var/lib/hailo-inference'))).toEqual(['0.0.0.0-9000.json'])
  })

  test('an exit code of the engine is that of the container', async () => {
    const start = `code=0; ${config.Entrypoint.join(' ')} || code=$?; echo "ended with $code"`
    expect(await run(start, { INFER_MODE: 'gpu' })).toMatch(/^ended with 78$/m)
  })

  test('it has nothing that builds, nothing of Hailo, and nothing of what else lay in the folder', async () => {
    const tools = 'cc c++ gcc g++ clang make ld npm npx python3 git sudo'
    expect(
      await run(`for tool in ${tools} curl node hailo-inference-doctor; do command -v $tool || true; done`),
    ).toBe(`/usr/bin/curl\n/usr/bin/node\n${ENGINE}/bin/hailo-inference-doctor\n`)
    const named =
      "-name '*.hef' -o -name '*hailort.so*' -o -name '*.key' -o -name '.env*' -o -name .npmrc -o -name .git"
    const everywhere = '/ -xdev -not -path "/proc/*" -not -path "/dev/*"'
    expect(await image.shell(`find ${everywhere} \\( ${named} \\) -print`)).toBe('')
    expect(
      await image.shell(`grep -rl ${CANARY} ${ENGINE} /models /root /home /var/lib/hailo-inference || true`),
    ).toBe('')
    expect(await image.shell('ls /var/lib/apt/lists /build /stage 2>&1 || true')).not.toMatch(
      /Packages|package/,
    )
    const privileged = async (root: DebianRoot) =>
      (await root.shell(`find ${everywhere} -type f -perm /6000 -print`)).split('\n').filter(Boolean)
    const ofBase = await privileged(base)
    expect(ofBase).toContain('/usr/bin/su')
    expect((await privileged(image)).filter(file => !ofBase.includes(file))).toEqual([])
  })

  describe('with HailoRT of the host', () => {
    const env = { INFER_MODE: 'hailo', HEF_PATH: '/models/tcn_encoder.soft.hef' }

    beforeAll(async () => {
      await buildNative()
      cpSync(SOFT_LIBRARY, image.path('/usr/lib/libhailort.so.4.23.0'))
      cpSync(SHIPPED_MODEL_FOLDER, image.path('/models'), { recursive: true })
      mkdirSync(image.path('/sys/module/hailo_pci'), { recursive: true })
      writeFileSync(image.path('/sys/module/hailo_pci/version'), '4.22.0\n')
    })

    test('it runs the model on the device', async () => {
      expect(isGolden('hailo', await answer('hailo', env))).toBe(true)
    })

    test('a driver of another version is told with both, and ends it or is bridged by FALLBACK', async () => {
      const mismatch = { ...env, SOFTHAILORT_FAULT: 'driver=4.22.0' }
      const start = `code=0; ${config.Entrypoint.join(' ')} || code=$?; echo "ended with $code"`
      const printed = await run(start, mismatch)
      expect(printed).toContain(
        'HAILO_INVALID_DRIVER_VERSION (76). The driver 4.22.0, the firmware and libhailort 4.23.0 must be of one version: ' +
          'install matching packages and reboot, or give a container the library of its host',
      )
      expect(printed).toMatch(/^ended with 1$/m)
      expect(isGolden('onnx', await answer('onnx', { ...mismatch, FALLBACK: 'onnx' }))).toBe(true)
    })
  })

  describe("with the user's package of HailoRT", () => {
    const packages = () => base.path('/project/images/hailort')

    /** As Hailo's: installing it would fail. */
    function makePackage(version: string): void {
      const folder = mkdtempSync(join(store, 'package-'))
      const architecture = execFileSync('dpkg', ['--print-architecture'], { encoding: 'utf8' }).trim()
      const files = {
        'DEBIAN/control': `Package: hailort\nVersion: ${version}\nArchitecture: ${architecture}\nMaintainer: nobody\nDescription: a library\n`,
        [`usr/lib/libhailort.so.${version}`]: 'a library',
        'usr/bin/hailortcli': 'a program',
      }
      for (const [name, text] of Object.entries(files)) {
        mkdirSync(dirname(join(folder, name)), { recursive: true })
        writeFileSync(join(folder, name), text)
      }
      writeFileSync(join(folder, 'DEBIAN/postinst'), '#!/bin/sh\nexit 1\n', { mode: 0o755 })
      execFileSync('dpkg-deb', [
        '--build',
        folder,
        join(packages(), `hailort_${version}_${architecture}.deb`),
      ])
    }

    test('its library and nothing else gets into the image, and two versions are refused', async () => {
      makePackage('4.23.0')
      await build('hailort', ['--target', 'hailort'])
      const built = await mount('hailort')
      expect(readdirSync(built.path('/hailort'))).toEqual(['libhailort.so.4.23.0'])
      makePackage('4.22.0')
      await expect(build('hailort', ['--target', 'hailort'])).rejects.toThrow('several versions of HailoRT')
    })
  })
})
