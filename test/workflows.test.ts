import { execFileSync, spawnSync } from 'node:child_process'
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, onTestFinished, test } from 'vitest'
import { parse } from 'yaml'

interface Step {
  readonly uses?: string
  readonly run?: string
  readonly with?: Readonly<Record<string, unknown>>
}
interface Job {
  readonly 'runs-on': string | readonly string[]
  readonly 'timeout-minutes'?: number
  readonly permissions?: Readonly<Record<string, string>>
  readonly if?: string
  readonly needs?: string
  readonly steps: readonly Step[]
}
interface Workflow {
  readonly on: Readonly<Record<string, unknown>>
  readonly permissions?: Readonly<Record<string, string>>
  readonly jobs: Readonly<Record<string, Job>>
}

const FOLDER = '.github/workflows'
const SOURCES = Object.fromEntries(
  readdirSync(FOLDER).map(name => [name, readFileSync(join(FOLDER, name), 'utf8')]),
)
const WORKFLOWS: Record<string, Workflow> = Object.fromEntries(
  Object.entries(SOURCES).map(([name, source]) => [name, parse(source)]),
)
const JOBS = Object.entries(WORKFLOWS).flatMap(([name, { jobs }]) =>
  Object.entries(jobs).map(([id, job]) => ({ where: `${name} ${id}`, name, job })),
)
const STEPS = JOBS.flatMap(({ where, job }) => job.steps.map(step => ({ where, step })))
const RUNS = STEPS.flatMap(({ where, step }) => (step.run === undefined ? [] : [{ where, run: step.run }]))
const HAS_SHELLCHECK = spawnSync('shellcheck', ['--version']).status === 0

test('there is a workflow for changes, images, packages, and compiling a HEF', () => {
  expect(Object.keys(WORKFLOWS).sort()).toEqual(['ci.yml', 'compile-hef.yml', 'image.yml', 'release.yml'])
  const compile = JOBS.find(({ where }) => where === 'compile-hef.yml compile')
  expect(compile!.job['runs-on']).toEqual(['self-hosted', 'hailo-builder'])
})

test('a workflow may read and no more, but for jobs that say what they write', () => {
  for (const { permissions } of Object.values(WORKFLOWS)) expect(permissions).toEqual({ contents: 'read' })
  const writing = JOBS.filter(({ job }) => Object.values(job.permissions ?? {}).includes('write'))
  expect(writing.map(({ where }) => where).sort()).toEqual([
    'compile-hef.yml compile',
    'image.yml push',
    'release.yml publish',
  ])
})

test('nothing of a pull request runs where something may be written, and nothing of it on a runner of one’s own', () => {
  for (const { where, name, job } of JOBS) {
    const { on } = WORKFLOWS[name]!
    expect(on).not.toHaveProperty('pull_request_target')
    expect(on).not.toHaveProperty('workflow_run')
    if (!('pull_request' in on) || job.if === "github.event_name == 'push'") continue
    expect(job.permissions, where).toBeUndefined()
    expect(job['runs-on'], where).not.toContain('self-hosted')
  }
})

test('a fork needs no secret but the one that every run has', () => {
  const secrets = Object.values(SOURCES).flatMap(source => source.match(/secrets\.\w+/g) ?? [])
  expect(new Set(secrets)).toEqual(new Set(['secrets.GITHUB_TOKEN']))
})

// What somebody else may have written becomes a word of a shell variable there, not a line of the script.
test('no script has an expression in it', () => {
  expect(RUNS.filter(({ run }) => run.includes('${{')).map(({ where }) => where)).toEqual([])
})

test('actions are of one commit, which has its version beside it, the same in every workflow', () => {
  const lines = Object.values(SOURCES).flatMap(source => source.match(/^.*\buses:.*$/gm) ?? [])
  expect(lines.length).toBe(STEPS.filter(({ step }) => step.uses !== undefined).length)
  const used = lines.map(line => /uses: ([\w-]+\/[\w-]+)@[0-9a-f]{40} # v\d+\.\d+\.\d+$/.exec(line)?.[1])
  expect(used).not.toContain(undefined)
  expect(new Set(lines.map(line => line.replace(/^.*uses: /, ''))).size).toBe(new Set(used).size)
})

test('a checkout keeps no key, and a job that hangs ends', () => {
  for (const { where, step } of STEPS) {
    if (step.uses?.startsWith('actions/checkout@')) {
      expect(step.with, where).toMatchObject({ 'persist-credentials': false })
    }
  }
  expect(JOBS.filter(({ job }) => job['timeout-minutes'] === undefined)).toEqual([])
})

test('what workflows name is there: npm scripts, files, jobs', () => {
  const { scripts } = JSON.parse(readFileSync('package.json', 'utf8'))
  for (const { where, run } of RUNS) {
    for (const [, script] of run.matchAll(/npm run ([\w:]+)/g)) expect(scripts, where).toHaveProperty(script!)
    for (const [path] of run.matchAll(/(?<![\w/])(test|artifacts|images|\.ci)\/[\w./-]+/g)) {
      expect(existsSync(path), `${where}: ${path}`).toBe(true)
    }
  }
  for (const { where, step } of STEPS) {
    const { files } = step.with ?? {}
    if (typeof files === 'string') expect(existsSync(files), `${where}: ${files}`).toBe(true)
  }
  for (const { name, job } of JOBS) {
    if (job.needs !== undefined) expect(WORKFLOWS[name]!.jobs).toHaveProperty(job.needs)
  }
})

test('the runs on each Node.js are those that package.json and README.md promise', () => {
  const [, first] = /^>=(\d+)/.exec(JSON.parse(readFileSync('package.json', 'utf8')).engines.node)!
  const releases = [...SOURCES['ci.yml']!.matchAll(/node: \[(.+)\]/g)].map(([, list]) => list)
  expect(new Set(releases)).toEqual(new Set([`${first}, 22, 24`]))
  expect(readFileSync('README.md', 'utf8')).toMatch(/Node\.js 20\.19, 22 or 24/)
})

test.skipIf(!HAS_SHELLCHECK)('every script of a workflow is good for shellcheck', () => {
  const folder = mkdtempSync(join(tmpdir(), 'workflows-'))
  onTestFinished(() => rmSync(folder, { recursive: true }))
  const files = RUNS.map(({ where, run }, index) => {
    const file = join(folder, `${where.replaceAll(/\W/g, '-')}-${index}.sh`)
    writeFileSync(file, `#!/usr/bin/env bash\nset -eo pipefail\n${run}`)
    return file
  })
  expect(shellcheck(files)).toBe('')
})

test.skipIf(!HAS_SHELLCHECK)('every shell script of the project is good for shellcheck', () => {
  const tracked = execFileSync('git', ['ls-files', '-z'], { encoding: 'utf8' }).split('\0')
  const scripts = tracked.filter(path => existsSync(path) && isShell(path))
  expect(scripts).toContain('.ci/run')
  expect(shellcheck(scripts)).toBe('')
})

function isShell(path: string): boolean {
  if (path.endsWith('.sh')) return true
  return !/\.\w+$/.test(path) && /^#!.*\b(ba|da)?sh\b/.test(readFileSync(path, 'utf8').slice(0, 64))
}

function shellcheck(files: readonly string[]): string {
  return spawnSync('shellcheck', ['--format', 'gcc', ...files], { encoding: 'utf8' }).stdout
}
