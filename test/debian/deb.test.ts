import { execFileSync } from 'node:child_process'
import { appendFileSync, cpSync, mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { cosineOf } from '../../src/core/golden.ts'
import { LATENT_DIMS, WINDOW_VALUES } from '../../src/core/window.ts'
import { PROJECT_FOLDER, SHIPPED_MODEL_FOLDER, VERSION } from '../../src/project.ts'
import { EXITS } from '../../src/supervisor/exits.ts'
import { DebianRoot } from './root.ts'
import { BootedRoot } from './systemd.ts'

const CONFIGURATION = '/etc/hailo-inference/hailo-inference.env'
const PORT = 9123
const OLD = '0.0.1-1'
const INSTALL = 'apt-get install -qq -y --no-install-recommends'

const folder = mkdtempSync(join(tmpdir(), 'hailo-inference-deb-test-'))
let packagePath: string
let root: DebianRoot
let system: BootedRoot

// One system that the package lives through, from its first version to its end: each test goes on where the last one ended.
beforeAll(async () => {
  packagePath = build('first')
  root = await DebianRoot.create('trixie', ['systemd', 'curl'])
  cpSync(packagePath, root.path('/root/new.deb'))
  const raw = join(folder, 'old')
  execFileSync('dpkg-deb', ['--raw-extract', packagePath, raw])
  execFileSync('sed', ['-i', `s/^Version: .*/Version: ${OLD}/`, join(raw, 'DEBIAN/control')])
  execFileSync('dpkg-deb', ['--root-owner-group', '-Znone', '--build', raw, root.path('/root/old.deb')])
  // What it depends on is fetched here, as there is no network where it is installed.
  await root.shell(`${INSTALL} --download-only /root/old.deb`)
  system = await BootedRoot.boot(root)
})

afterAll(async () => {
  await system?.close()
  root?.close()
  rmSync(folder, { recursive: true, force: true })
})

test('two builds of one state are the same bytes', () => {
  expect(readFileSync(build('second')).equals(readFileSync(packagePath))).toBe(true)
})

test('what is installed serves the model that ships with it, as its golden windows say', async () => {
  await system.shell(`${INSTALL} /root/old.deb`)
  expect(await property('ActiveState', 'SubState', 'UnitFileState')).toEqual(['active', 'running', 'enabled'])
  expect(await property('StatusText')).toEqual([expect.stringMatching(/^ready: .* by onnx on cpu$/)])
  await expectGoldenAnswer(9000)
})

test('the unit is one that systemd has nothing to say about, and leaves the service little to reach', async () => {
  expect(await system.shell('systemd-analyze verify hailo-inference.service')).toBe('')
  await system.shell('systemd-analyze security --no-pager --threshold=20 hailo-inference.service')
})

test('an upgrade keeps what was configured, and serves with it', async () => {
  appendFileSync(root.path(CONFIGURATION), `SIDECAR_PORT=${PORT}\n`)
  const [before] = await property('MainPID')
  await system.shell(`${INSTALL} /root/new.deb`)
  expect(await system.shell('dpkg-query -W hailo-inference')).toMatch(
    new RegExp(`^hailo-inference\t${VERSION.replace('-', '~')}-\\d+$`, 'm'),
  )
  expect(await property('MainPID')).not.toEqual([before])
  await expectGoldenAnswer(PORT)
})

test('a reload goes on in the same process', async () => {
  const before = await property('MainPID')
  await system.shell('systemctl reload hailo-inference')
  await untilShown('SubState', 'running')
  expect(await property('MainPID')).toEqual(before)
  await expectGoldenAnswer(PORT)
})

test('a main thread that stands still is noticed, and another process answers', async () => {
  await system.shell(`
    mkdir -p /run/systemd/system/hailo-inference.service.d
    printf '[Service]\\nWatchdogSec=4\\n' > /run/systemd/system/hailo-inference.service.d/soon.conf
    systemctl daemon-reload
    systemctl restart hailo-inference
    systemctl kill --kill-whom=main --signal=STOP hailo-inference`)
  await untilShown('NRestarts', '1')
  await untilShown('SubState', 'running')
  expect(await log()).toMatch(/Watchdog timeout/)
  await expectGoldenAnswer(PORT)
})

test('a stop is a drain', async () => {
  await system.shell('systemctl stop hailo-inference')
  expect(await property('ActiveState', 'Result', 'ExecMainStatus')).toEqual(['inactive', 'success', '0'])
  expect(await log()).toContain('"msg":"drained"')
})

test('a configuration that cannot be used is told once, and not tried again', async () => {
  await system.shell(`echo RING_SLOTS=3 >> ${CONFIGURATION}; ! systemctl start hailo-inference`)
  expect(await property('SubState', 'ExecMainStatus', 'NRestarts')).toEqual([
    'failed',
    `${EXITS.config}`,
    '0',
  ])
  expect(await log()).toContain('RING_SLOTS: ')
})

test('what is removed keeps its configuration, and what is purged leaves its user and nothing else', async () => {
  await system.shell('apt-get remove -qq -y hailo-inference')
  expect(readFileSync(root.path(CONFIGURATION), 'utf8')).toContain('RING_SLOTS=3')
  await system.shell('rm -r /run/systemd/system/hailo-inference.service.d')
  // Something of its user may still run.
  await system.shell(`
    setpriv --reuid=hailo-inference --regid=hailo-inference --clear-groups sleep 60 > /dev/null 2>&1 &
    apt-get purge -qq -y hailo-inference; kill $!`)
  expect(await system.shell('find / -xdev -path /var/log -prune -o -name "*hailo-inference*" -print')).toBe(
    '',
  )
  await system.shell('getent passwd hailo-inference; getent group hailo-inference')
})

function build(name: string): string {
  return execFileSync(
    process.execPath,
    [join(PROJECT_FOLDER, 'dist', 'packaging', 'deb.js'), join(folder, name)],
    { env: { ...process.env, SOURCE_DATE_EPOCH: '1700000000' }, encoding: 'utf8' },
  ).trim()
}

async function property(...names: string[]): Promise<string[]> {
  const lines = names.map(name => `systemctl show -P ${name} hailo-inference`)
  return (await system.shell(lines.join('\n'))).trimEnd().split('\n')
}

async function untilShown(name: string, value: string): Promise<void> {
  await until(async () => (await property(name))[0] === value)
}

function log(): Promise<string> {
  return system.shell('journalctl --sync; journalctl --no-pager --output=cat --unit=hailo-inference')
}

/** The first golden window, as a program would ask. */
async function expectGoldenAnswer(port: number): Promise<void> {
  const windowBytes = 4 * WINDOW_VALUES
  await system.shell(
    `head -c ${windowBytes} /usr/lib/hailo-inference/artifacts/tcn_encoder/1.0.0/golden_windows.f32 |
      curl -sS --fail -o /root/answer --data-binary @- -H 'X-Deadline-Ms: 5000' -H 'Content-Type: application/octet-stream' \\
        -H 'Accept: application/octet-stream' http://127.0.0.1:${port}/infer`,
  )
  const answered = floatsOf(root.path('/root/answer')).subarray(0, LATENT_DIMS)
  const expected = floatsOf(join(SHIPPED_MODEL_FOLDER, 'golden_latent.f32')).subarray(0, LATENT_DIMS)
  expect(cosineOf(answered, expected)).toBeGreaterThan(0.9999)
}

function floatsOf(path: string): Float32Array {
  const bytes = readFileSync(path)
  return new Float32Array(bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.length))
}

async function until(holds: () => Promise<boolean>): Promise<void> {
  while (!(await holds())) await sleep(200)
}
