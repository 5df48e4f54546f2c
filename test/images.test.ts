import { execFileSync, spawnSync } from 'node:child_process'
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { beforeEach, describe, expect, test } from 'vitest'
import { loadConfig } from '../src/config.ts'
import { VERSION } from '../src/project.ts'

/** Instructions, with their continuations in one line and without comments. */
const INSTRUCTIONS = readFileSync('images/runtime/Dockerfile', 'utf8')
  .replace(/^#.*\n/gm, '')
  .replace(/\\\n/g, ' ')
  .split('\n')
  .filter(line => line.trim() !== '')
const of = (name: string) =>
  INSTRUCTIONS.filter(line => line.startsWith(`${name} `)).map(line => line.slice(name.length + 1))

test('the image is made of images that are named with a tag, and of stages', () => {
  const stages = of('FROM').map(line => /^(\S+) AS (\S+)$/.exec(line)!.slice(1))
  const names = stages.map(([, name]) => name)
  const foreign = stages.map(([from]) => from!).filter(from => !names.includes(from))
  expect(new Set(foreign)).toEqual(new Set(['debian:trixie-slim']))
  expect(names.at(-1)).toBe('runtime')
})

test('nothing is fetched by hand, nobody becomes root, and lists of packages are not kept', () => {
  expect(of('ADD')).toEqual([])
  expect(of('USER')).toEqual(['1000:1000'])
  const runs = of('RUN')
  expect(runs.filter(line => /\bsudo\b|\bwget\b|\bcurl +-|https?:/.test(line))).toEqual([])
  const installing = runs.filter(line => line.includes('apt-get install'))
  expect(installing).toHaveLength(2)
  for (const line of installing) {
    expect(line).toMatch(
      /^apt-get update .*install -y --no-install-recommends .*&& rm -rf \/var\/lib\/apt\/lists\/\*$/,
    )
  }
})

test('port, release and files are those of the project', () => {
  const { port } = loadConfig({})
  expect(of('EXPOSE')).toEqual([`${port}`])
  expect(of('HEALTHCHECK').join()).toContain(`:-${port}}`)
  expect(readFileSync('images/docker-bake.hcl', 'utf8')).toContain(
    `variable "VERSION" { default = "${VERSION}" }`,
  )
  const allowed = readFileSync('.dockerignore', 'utf8').match(/(?<=^!).*$/gm)!
  expect(allowed.filter(path => !existsSync(path))).toEqual([])
  const sources = of('COPY').filter(line => !line.startsWith('--from') && !line.startsWith('. '))
  expect(
    sources.flatMap(line => line.split(' ').slice(0, -1)).filter(path => !allowed.includes(path)),
  ).toEqual([])
})

test.each([
  [{ SIDECAR_PORT: '1', FASTAPI_PORT: '2', PORT: '3' }],
  [{ FASTAPI_PORT: '2', PORT: '3' }],
  [{ PORT: '3' }],
  [{}],
])('with %j the health check asks the port that the engine listens on', env => {
  const [, url] = /CMD curl .* "(\S+)"$/.exec(of('HEALTHCHECK').join())!
  const asked = execFileSync('sh', ['-c', `echo "${url}"`], { encoding: 'utf8', env })
  expect(asked).toBe(`http://localhost:${loadConfig(env).port}/healthz\n`)
})

test.each([{ SIDECAR_HOST: '127.0.0.1' }, { FASTAPI_HOST: '127.0.0.1' }])(
  'a container that is given %j listens there, and else on all addresses',
  given => {
    const own = of('ENV').flatMap(line =>
      line
        .trim()
        .split(/\s+/)
        .map(each => each.split('=')),
    )
    const { PATH: _, ...env } = Object.fromEntries(own)
    expect(loadConfig(env).host).toBe('0.0.0.0')
    expect(loadConfig({ ...env, ...given }).host).toBe('127.0.0.1')
  },
)

test('what images/README.md builds with any Docker takes no BuildKit', () => {
  expect(INSTRUCTIONS.filter(line => /--(mount|link|chmod|parents|security)\b|<</.test(line))).toEqual([])
})

describe.skipIf(spawnSync('dpkg-deb', ['--version']).status !== 0)("the user's package of HailoRT", () => {
  const architecture = 'amd64'
  let folder: string
  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), 'images-'))
    mkdirSync(join(folder, 'packages'))
    return () => rmSync(folder, { recursive: true })
  })

  function makePackage(name: string, file: string): void {
    const root = join(folder, 'root')
    mkdirSync(join(root, 'DEBIAN'), { recursive: true })
    mkdirSync(join(root, 'usr/lib'), { recursive: true })
    const control = {
      Package: 'hailort',
      Version: '4.23.0',
      Architecture: 'all',
      Maintainer: 'me',
      Description: 'it',
    }
    const lines = Object.entries(control).map(([key, value]) => `${key}: ${value}\n`)
    writeFileSync(join(root, 'DEBIAN/control'), lines.join(''))
    writeFileSync(join(root, 'usr/lib', file), '')
    execFileSync('dpkg-deb', ['--build', root, join(folder, 'packages', name)])
    rmSync(root, { recursive: true })
  }

  /** The step of the image, with its folders in `folder`. */
  function unpack(): { status: number | null; stderr: string; libraries: readonly string[] } {
    const step = of('RUN')[0]!
      .replaceAll(/(?<=[\s'"])\/(?=(packages|hailort|unpacked)\b)/g, `${folder}/`)
      .replace('$(dpkg --print-architecture)', architecture)
    const { status, stderr } = spawnSync('sh', ['-c', step], { encoding: 'utf8' })
    const libraries = existsSync(join(folder, 'hailort')) ? readdirSync(join(folder, 'hailort')) : []
    return { status, stderr, libraries }
  }

  test('is not needed, and one for the other architecture is left to that', () => {
    expect(unpack()).toMatchObject({ status: 0, libraries: [] })
    rmSync(join(folder, 'hailort'), { recursive: true })
    rmSync(join(folder, 'unpacked'), { recursive: true })
    makePackage('hailort_4.23.0_amd64.deb', 'libhailort.so.4.23.0')
    makePackage('hailort_4.23.0_arm64.deb', 'libhailort.so.4.22.0')
    expect(unpack()).toMatchObject({ status: 0, libraries: ['libhailort.so.4.23.0'] })
  })

  test.each([
    ['hailort-4.23.0.deb', 'libhailort.so.4.23.0', 'is not named hailort_<version>_amd64.deb or _arm64.deb'],
    ['hailort_4.23.0_amd64.deb', 'libother.so', 'has no libhailort.so'],
  ])('%s with %s ends the build in words', (name, file, words) => {
    makePackage(name, file)
    expect(unpack()).toMatchObject({ status: 1, stderr: `images/hailort: ${name} ${words}\n` })
  })
})

test.skipIf(spawnSync('shellcheck', ['--version']).status !== 0)(
  'images/setup-server.sh has nothing that shellcheck minds',
  () => {
    expect(execFileSync('shellcheck', ['images/setup-server.sh'], { encoding: 'utf8' })).toBe('')
  },
)
