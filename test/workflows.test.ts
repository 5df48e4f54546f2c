import { execFileSync, spawnSync } from 'node:child_process'
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { describe, expect, onTestFinished, test } from 'vitest'
import { parse } from 'yaml'

interface Step {
  readonly name?: string
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

const { PATH = '' } = process.env
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

test('a compile waits for another of the same tag, and for none that has nothing to compile', () => {
  const { concurrency, jobs } = parse(SOURCES['compile-hef.yml']!)
  expect(concurrency).toBeUndefined()
  expect(jobs.find.concurrency).toBeUndefined()
  expect(jobs.compile.concurrency.group).toContain(jobs.compile.env.TAG)
})

describe('compile-hef.yml', () => {
  /** Downloads and compiles an archive with `files`, with stand-ins for gh and docker. */
  function compile(files: Readonly<Record<string, string | Buffer>>): { printed: string; options: string } {
    const folder = emptyFolder()
    for (const name of ['archive', 'bin']) mkdirSync(join(folder, name))
    symlinkSync(resolve('artifacts'), join(folder, 'artifacts'))
    for (const [name, text] of Object.entries(files)) writeFileSync(join(folder, 'archive', name), text)
    const stub = (name: string, line: string) =>
      writeFileSync(join(folder, 'bin', name), `#!/bin/bash\n${line}\n`, { mode: 0o755 })
    stub('gh', 'tar -czf compile/2.0.0.onnx.tar.gz -C archive .')
    stub(
      'docker',
      'mkdir compile/models/2.0.0; echo parity > compile/models/2.0.0/parity.md; echo "$@" > options',
    )
    const env = {
      PATH: `${join(folder, 'bin')}:${PATH}`,
      ARCHIVE: '2.0.0.onnx.tar.gz',
      TAG: 'v2',
      DFC_FOLDER: '/dfc',
      HAILO_ARCH: 'hailo8',
      GITHUB_STEP_SUMMARY: join(folder, 'summary'),
    }
    const printed = ['Download', 'Compile'].map(step =>
      runStep('compile-hef.yml', 'compile', step, folder, env),
    )
    return { printed: printed.join(''), options: readFileSync(join(folder, 'options'), 'utf8') }
  }

  test('gives the compiler the configuration of the release, if it has one', () => {
    const files = { 'model.onnx': 'another', 'calibration.f32': '' }
    expect(compile(files).options).not.toContain('--config')
    const { printed, options } = compile({ ...files, 'export_config.yaml': 'network:' })
    expect(options).toMatch(/^run --rm --init .* --arch hailo8 --config \/release\/export_config\.yaml$/m)
    expect(printed).toBe('')
  })

  test('warns of a model without windows of its own, but for the one that they are of', () => {
    expect(compile({ 'model.onnx': 'another' }).printed).toMatch(
      /^::warning::2\.0\.0\.onnx\.tar\.gz has no cal/,
    )
    const shipped = readFileSync('artifacts/tcn_encoder/1.0.0/model.onnx')
    expect(compile({ 'model.onnx': shipped }).printed).toBe('')
  })
})

test('release.yml publishes nothing when what is the same for all differs', () => {
  const folder = emptyFolder()
  const put = (machine: string, text: string) => {
    mkdirSync(join(folder, 'made', machine), { recursive: true })
    writeFileSync(join(folder, 'made', machine, 'hailo-inference-1.0.0.tgz'), text)
    execFileSync('bash', ['-c', 'sha256sum hailo-inference* > SHA256SUMS'], {
      cwd: join(folder, 'made', machine),
    })
  }
  const gather = () => runStep('release.yml', 'publish', 'Gather', folder, { PATH })
  put('x64', 'the same')
  put('arm64', 'the same')
  gather()
  expect(readdirSync(join(folder, 'release'))).toEqual(['SHA256SUMS', 'hailo-inference-1.0.0.tgz'])
  rmSync(join(folder, 'release'), { recursive: true })
  put('arm64', 'another')
  expect(gather).toThrow('differ')
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
  const folder = emptyFolder()
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

function emptyFolder(): string {
  const folder = mkdtempSync(join(tmpdir(), 'workflows-'))
  onTestFinished(() => rmSync(folder, { recursive: true }))
  return folder
}

/** As a runner does it. */
function runStep(workflow: string, job: string, name: string, cwd: string, env: NodeJS.ProcessEnv): string {
  const { run } = WORKFLOWS[workflow]!.jobs[job]!.steps.find(step => step.name === name)!
  const { status, stdout, stderr } = spawnSync('bash', ['-eo', 'pipefail', '-c', run!], {
    cwd,
    env,
    encoding: 'utf8',
  })
  if (status !== 0) throw new Error(`${name} ended with ${status}:\n${stdout}${stderr}`)
  return stdout
}

function isShell(path: string): boolean {
  if (path.endsWith('.sh')) return true
  return !/\.\w+$/.test(path) && /^#!.*\b(ba|da)?sh\b/.test(readFileSync(path, 'utf8').slice(0, 64))
}

function shellcheck(files: readonly string[]): string {
  return spawnSync('shellcheck', ['--format', 'gcc', ...files], { encoding: 'utf8' }).stdout
}
