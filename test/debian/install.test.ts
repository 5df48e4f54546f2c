import { execFileSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { DebianRoot, type Suite } from './root.ts'
import { BootedRoot } from './systemd.ts'

const PAGE = readFileSync('docs/install.md', 'utf8')
const REPOSITORY = '/srv/hailo-inference.git'
/** What serves until it is ended; the blocks behind it are for another terminal. */
const SERVERS = ['npm start', 'npx hailo-inference']
const ALL_OK = /^ok .*$/m

const CLONES: [Suite, string][] = [
  ['trixie', 'A clone, on Debian 13 or Raspberry Pi OS 13'],
  ['bookworm', 'A clone, on Debian 12 or Ubuntu 24.04'],
]

describe.each(CLONES)('on a clean %s', (suite, section) => {
  let root: DebianRoot
  beforeAll(async () => {
    root = await DebianRoot.create(suite)
    execFileSync('git', ['clone', '--quiet', '--bare', '.', root.path(REPOSITORY)])
  })
  afterAll(() => root?.close())

  test(`"${section}" leads to the first answer`, async () => {
    expect(await follow(root, section)).toMatch(ALL_OK)
  })

  test.runIf(suite === 'trixie')('"The npm package" does so in a project of one’s own', async () => {
    await root.shell('mkdir -p /root/project && echo "{}" > /root/project/package.json')
    const [pack, install] = blocksOf('The npm package')
    await root.shell(pack!, { cwd: '/root/hailo-inference' })
    await followBlocks(
      root,
      [install!, 'curl -fsS --retry 30 --retry-connrefused http://127.0.0.1:9000/readyz'],
      {
        cwd: '/root/project',
      },
    )
  })

  test.runIf(suite === 'trixie')('"The Debian package" does so on a machine with systemd', async () => {
    const [build, install, configure] = blocksOf('The Debian package')
    await root.shell(build!, { cwd: '/root/hailo-inference' })
    await root.install(['systemd-sysv', 'dbus'])
    // The machine that is booted has no network: what the package depends on lies there already.
    await root.shell('apt-get install -qq -y --download-only ./release/*.deb', {
      cwd: '/root/hailo-inference',
    })
    const machine = await BootedRoot.boot(root)
    try {
      const inClone = (lines: string) => machine.shell(`${AS_ROOT}\ncd /root/hailo-inference\n${lines}`)
      await inClone(install!)
      expect(await inClone('compose/smoke.sh')).toMatch(ALL_OK)
      await inClone(configure!)
      expect(await inClone('compose/smoke.sh --wait 30')).toMatch(ALL_OK)
    } finally {
      await machine.close()
    }
  })
})

/** The blocks for a shell in one section of the page. */
function blocksOf(section: string): string[] {
  const text = PAGE.split(/^## /m).find(part => part.startsWith(`${section}\n`))
  expect(text, `a section "${section}"`).toBeDefined()
  return [...text!.matchAll(/^```sh\n(.*?)^```$/gms)].map(([, lines]) => lines!)
}

function follow(root: DebianRoot, section: string): Promise<string> {
  return followBlocks(root, blocksOf(section), { cwd: '/root' })
}

/** Line by line, but for one thing: what serves does so on a loopback interface of its own, as ports are shared. */
async function followBlocks(root: DebianRoot, blocks: string[], { cwd }: { cwd: string }): Promise<string> {
  const lines = blocks.join('').split('\n')
  const at = lines.findIndex(line => SERVERS.includes(line))
  const env = { REPOSITORY, DEBIAN_FRONTEND: 'noninteractive' }
  const before = [AS_ROOT, ...lines.slice(0, at), 'pwd > /root/cwd'].join('\n')
  await root.shell(before, { cwd, env })
  const serve = [
    AS_ROOT,
    'cd "$(cat /root/cwd)"',
    `${lines[at]} > /root/server.log 2>&1 &`,
    ...lines.slice(at + 1),
  ]
  return root.shell(serve.join('\n'), { env, offline: true })
}

/** Whoever is root needs no sudo, and edits nothing here. */
const AS_ROOT = 'sudo() { "$@"; }\neditor() { true; }'
