import { spawn } from 'node:child_process'
import { appendFileSync, mkdirSync, mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { buffer } from 'node:stream/consumers'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { PROJECT_FOLDER } from '../../src/project.ts'
import { addressesOf, listeners, type Mount, mountsOf, type Services } from '../compose-stack.ts'
import { startServer } from '../server.ts'
import { DebianRoot, noDebianRoots } from './root.ts'

const PROJECT = '/srv/hailo-inference'
const FOLDER = join(PROJECT, 'compose')
const PROFILES = ['hailo-device', 'onnx', 'hailo-stub']
const skipped = noDebianRoots()

let root: DebianRoot
beforeAll(async () => {
  if (skipped) return
  root = await DebianRoot.create('trixie', ['docker-compose', 'docker-cli', 'prometheus', 'curl'])
  root.copyProject(PROJECT)
})
afterAll(() => root?.close())

test.skipIf(skipped).each(PROFILES)(
  'Docker Compose takes profile %s, with monitoring and EdgeInfer, and all in it fits together',
  async profile => {
    const files = ['-f', 'compose.yaml', '-f', 'edgeinfer.override.yaml']
    const services = await composed([...files, '--profile', profile, '--profile', 'monitoring'])
    const engine =
      profile === 'hailo-device' ? 'hailo-inference' : `hailo-inference-${profile.replace('hailo-', '')}`
    const names = ['alertmanager', 'edge-infer', 'grafana', engine, 'prometheus']
    expect(Object.keys(services).sort()).toEqual(names)
    expect(services[engine]).toMatchObject({
      expose: ['9000'],
      ports: [{ host_ip: '127.0.0.1', published: '9000', target: 9000 }],
    })

    const known = listeners(services)
    const mounts = mountsHere(services)
    const addresses = addressesOf(
      services,
      mounts.filter(({ source }) => source.includes(FOLDER)),
    )
    expect(addresses.length).toBeGreaterThan(4)
    for (const { host, port } of addresses) expect(known.get(host), host).toMatchObject([{ ports: [port] }])
    // Of the machine, not of the project: the library that a driver comes with.
    const ofProject = mounts.filter(({ source }) => source.includes(PROJECT))
    expect(ofProject.length).toBeGreaterThan(7)
  },
)

test.skipIf(skipped)(
  'each profile alone is one engine, and .env reaches it but for what the profile says',
  async () => {
    await root.shell(
      `printf '%s\n' DEADLINE_MS=30 INFER_MODE=hailo USE_REAL_MODEL=true SIDECAR_PORT=9123 > .env`,
      {
        cwd: FOLDER,
      },
    )
    try {
      const services = await composed(['--profile', 'hailo-stub'])
      expect(Object.keys(services)).toEqual(['hailo-inference-stub'])
      expect(services['hailo-inference-stub']).toMatchObject({
        environment: { DEADLINE_MS: '30', INFER_MODE: 'stub', USE_REAL_MODEL: 'false', SIDECAR_PORT: '9000' },
        ports: [{ published: '9123', target: 9000 }],
      })
    } finally {
      await root.shell('rm .env', { cwd: FOLDER })
    }
  },
)

test.skipIf(skipped)('smoke.sh needs no more than Debian and curl', async () => {
  const server = await startServer({ INFER_MODE: 'onnx', WORKERS: '1' })
  try {
    const printed = await root.run([join(FOLDER, 'smoke.sh'), server.url, '--expect', 'onnx'], {
      user: 'nobody',
      cwd: '/',
    })
    expect(printed).not.toContain('FAIL')
    expect(printed).toMatch(/^ok {4}POST \/infer, binary$/m)
  } finally {
    await server.stop()
  }
})

test.skipIf(skipped)(
  'Prometheus scrapes the engine, has all rules and serves the runbook, from what is mounted',
  async () => {
    const services = await composed(['--profile', 'onnx', '--profile', 'monitoring'])
    const { prometheus } = services
    const mounts = mountsHere(services).filter(({ service }) => service === 'prometheus')
    rmSync(root.path('/etc/prometheus'), { recursive: true }) // of Debian's package
    for (const { source, target } of mounts) makeMountPoint(source, root.path(target))
    mkdirSync(root.path('/prometheus'))
    appendFileSync(root.path('/etc/hosts'), '127.0.0.1 hailo-inference\n')
    const state = mkdtempSync(join(tmpdir(), 'compose-'))
    try {
      const printed = await inOwnNetwork(
        `
      folder=$1 node=$2 project=$3 state=$4
      shift 4
      chroot "$folder" ip link set lo up
      while [ "$1" != -- ]; do mount --bind -o ro "$1" "$folder$2"; shift 2; done
      shift
      env -i PATH="$PATH" INFER_MODE=onnx SIDECAR_HOST=0.0.0.0 STATE_DIR="$state" "$node" "$project/dist/src/main.js" > "$state/engine.log" 2>&1 &
      chroot "$folder" prometheus "$@" > "$state/prometheus.log" 2>&1 &
      "$project/compose/smoke.sh" --wait 90 --prometheus http://127.0.0.1:9090 || tail -n 20 "$state"/*.log
      curl -sS http://127.0.0.1:9090/user/runbook.md | grep -m 1 '^## HailoTargetDown'
      `,
        [
          root.folder,
          process.execPath,
          PROJECT_FOLDER,
          state,
          ...mounts.flatMap(({ source, target }) => [source, target]),
          '--',
          ...prometheus!.command!,
        ],
      )
      expect(printed).not.toContain('FAIL')
      expect(printed).toContain('ok    Prometheus scrapes it: 1 targets')
      expect(printed).toContain('ok    Prometheus has the rules')
      expect(printed).toContain('\n## HailoTargetDown\n')
    } finally {
      rmSync(state, { recursive: true })
    }
  },
)

/** What `docker compose config` makes of it. */
async function composed(args: readonly string[]): Promise<Services> {
  const command = ['docker', 'compose', ...args, 'config', '--format', 'json']
  return JSON.parse(await root.run(command, { cwd: FOLDER, offline: true })).services
}

/** With the paths that files of the project have on this machine. */
function mountsHere(services: Services): Mount[] {
  return mountsOf(services, FOLDER).map(mount =>
    mount.source.startsWith(PROJECT) ? { ...mount, source: root.path(mount.source) } : mount,
  )
}

/** Docker makes what is not there. */
function makeMountPoint(source: string, target: string): void {
  if (statSync(source).isDirectory()) return void mkdirSync(target, { recursive: true })
  mkdirSync(dirname(target), { recursive: true })
  writeFileSync(target, '')
}

/** Runs bash with mounts, processes and a loopback interface of its own. @returns what it printed */
async function inOwnNetwork(lines: string, args: readonly string[]): Promise<string> {
  const namespaces = ['--mount', '--net', '--pid', '--fork', '--kill-child', '--mount-proc']
  const child = spawn('unshare', [...namespaces, 'bash', '-c', lines, 'bash', ...args], {
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  return String(await buffer(child.stdout!))
}
