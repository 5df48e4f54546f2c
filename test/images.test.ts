import { execFileSync, spawnSync } from 'node:child_process'
import { existsSync, readFileSync } from 'node:fs'
import { expect, test } from 'vitest'
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
  expect(of('HEALTHCHECK').join()).toContain(`localhost:\${SIDECAR_PORT:-${port}}/healthz`)
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

test.skipIf(spawnSync('shellcheck', ['--version']).status !== 0)(
  'images/setup-server.sh has nothing that shellcheck minds',
  () => {
    expect(execFileSync('shellcheck', ['images/setup-server.sh'], { encoding: 'utf8' })).toBe('')
  },
)
