import { cpSync, mkdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { SHIPPED_MODEL_FOLDER } from '../../src/project.ts'
import { COMPILER_FOLDER, STAND_IN } from '../compile-run.ts'
import { DebianRoot } from './root.ts'

const DOCKERFILE = readFileSync(join(COMPILER_FOLDER, 'Dockerfile'), 'utf8')
const INSTALLED = '/usr/lib/hailo-inference-compiler'
const WHEEL = 'hailo_dataflow_compiler-3.33.0-py3-none-any.whl'

// Debian's own Python, of the generation of the image's: names of packages are the same there.
test("the compiler image's steps, as commands: the user's wheel is installed once, and a version comes out", async () => {
  const packages = /apt-get install [^\n]*\\\n([\s\S]*?)&&/.exec(DOCKERFILE)![1]!.match(/[\w.-]+/g)!
  const needed = packages.filter(name =>
    ['python3', 'python3-venv', 'python3-numpy', 'python3-yaml'].includes(name),
  )
  expect(needed).toHaveLength(4)
  const root = await DebianRoot.create('bookworm', needed)
  try {
    await root.shell(`apt-get install -qq --simulate --no-install-recommends ${packages.join(' ')}`)
    const [mkdir] = DOCKERFILE.match(/^RUN (mkdir .*)$/m)!.slice(1)
    await root.shell(mkdir!)
    for (const [, sources, target] of DOCKERFILE.matchAll(/^COPY (.+) (\S+)$/gm)) {
      for (const source of sources!.split(' ')) {
        const to = target === './' ? source : target!
        cpSync(join(COMPILER_FOLDER, source), root.path(join(INSTALLED, to)), { recursive: true })
      }
    }
    cpSync(STAND_IN, root.path('/tmp/stand-in'), { recursive: true })
    cpSync(SHIPPED_MODEL_FOLDER, root.path('/release'), { recursive: true })
    mkdirSync(root.path('/calibration'))
    cpSync(join(SHIPPED_MODEL_FOLDER, 'golden_windows.f32'), root.path('/calibration/windows.f32'))
    await root.shell(
      `mkdir /dfc; cd /tmp/stand-in; python3 -m zipfile -c /dfc/${WHEEL} *; install -d -o 1000 /models`,
    )

    const variables = DOCKERFILE.match(/^ENV (.*)$/m)![1]!
      .split(' ')
      .map(pair => pair.split('='))
    const env = { FAKE_DFC_MODEL: '/release', FAKE_DFC_CALLS: '/tmp/calls', ...Object.fromEntries(variables) }
    const entrypoint = JSON.parse(DOCKERFILE.match(/^ENTRYPOINT (.*)$/m)![1]!)
    const imageUser = DOCKERFILE.match(/^USER (.*)$/m)![1]!
    const compile = (version: string, user = imageUser) => {
      const options = ['--onnx', '/release/model.onnx', '--calibration', '/calibration/windows.f32']
      const command = [...entrypoint, ...options, '--out', '/models', '--version', version]
      return root.run(command, { env, user, offline: true, cwd: INSTALLED })
    }
    expect(await compile('1.1.0')).toMatch(
      new RegExp(`Installing ${WHEEL}[\\s\\S]*parse: \\.\\.\\.[\\s\\S]*/models/1\\.1\\.0\\n`),
    )
    expect(await compile('1.2.0')).toMatch(/^parse: as before\n/)
    // Another user has a compiler of its own in the cache, and may not write where the versions are.
    await expect(compile('1.3.0', '1001:1001')).rejects.toThrow(
      /Installing[\s\S]*compile: \/models cannot be written to by user 1001\n/,
    )
    await root.shell('cd /models/1.2.0; sha256sum --quiet -c SHA256SUMS; ls tcn_encoder.hef parity.md')
  } finally {
    root.close()
  }
})
