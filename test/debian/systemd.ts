import { type ChildProcess, spawn, spawnSync } from 'node:child_process'
import { existsSync, readFileSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import type { DebianRoot } from './root.ts'

/**
 * A Debian root whose systemd has been started, as the first process of namespaces of its own: its units, its users, and
 * a network with nothing but a loopback interface, are nobody else's.
 */
export class BootedRoot {
  readonly #root: DebianRoot
  readonly #unshare: ChildProcess
  /** Of systemd, as seen from here. */
  readonly #pid: number

  private constructor(root: DebianRoot, unshare: ChildProcess, pid: number) {
    this.#root = root
    this.#unshare = unshare
    this.#pid = pid
  }

  /** Resolves when systemd has started what is enabled. */
  static async boot(root: DebianRoot): Promise<BootedRoot> {
    const isolated = ['--mount', '--net', '--uts', '--ipc']
    const unshare = spawn('unshare', [...isolated, 'bash', '-euc', ENTER_CGROUP, 'boot', root.folder, BOOT], {
      stdio: ['ignore', 'pipe', 'pipe'],
      detached: true, // a signal to the whole process group, from inside, is none for us
    })
    let said = ''
    for (const stream of [unshare.stdout, unshare.stderr])
      stream.setEncoding('utf8').on('data', text => (said += text))
    const pid = await childOf(unshare, () => said)
    const booted = new BootedRoot(root, unshare, pid)
    while (
      !/^(running|degraded)$/m.test(await booted.shell('systemctl is-system-running || true').catch(() => ''))
    ) {
      if (unshare.exitCode !== null) throw new Error(`systemd did not start:\n${said}`)
      await sleep(100)
    }
    return booted
  }

  /** Lines for bash, which stops at the first that fails. @returns what they print. @throws Error with that when they fail */
  async shell(lines: string): Promise<string> {
    const enter = ['--target', `${this.#pid}`, '--mount', '--pid', '--cgroup', '--net', '--uts', '--ipc']
    const child = spawn(
      'nsenter',
      [
        ...enter,
        'chroot',
        this.#root.folder,
        'env',
        '-i',
        `PATH=${PATH}`,
        'HOME=/root',
        'LANG=C.UTF-8',
        'DEBIAN_FRONTEND=noninteractive',
        'bash',
        '-euo',
        'pipefail',
        '-c',
        lines,
      ],
      {
        detached: true,
        stdio: ['ignore', 'pipe', 'pipe'],
      },
    )
    let output = ''
    for (const stream of [child.stdout, child.stderr])
      stream.setEncoding('utf8').on('data', text => (output += text))
    const code = await new Promise(resolve => child.once('close', (code, signal) => resolve(code ?? signal)))
    if (code !== 0) throw new Error(`${lines}\nended with ${code}:\n${output}`)
    return output
  }

  /** Every process in it is killed. */
  async close(): Promise<void> {
    const closed = new Promise(resolve => this.#unshare.once('close', resolve))
    this.#unshare.kill('SIGKILL')
    await closed
    spawnSync('unshare', ['--mount', 'bash', '-euc', REMOVE_CGROUP, 'remove', this.#root.folder])
  }
}

const PATH = '/usr/sbin:/usr/bin:/sbin:/bin'

/** In a cgroup of its own, below which systemd makes those of its units. */
const ENTER_CGROUP = `
root=$1
mount --make-rprivate /
mount --bind "$root" "$root"
mount -t sysfs -o ro sysfs "$root/sys"
mount -t cgroup2 cgroup2 "$root/sys/fs/cgroup"
mkdir -p "$root/sys/fs/cgroup/\${root##*/}"
echo $$ > "$root/sys/fs/cgroup/\${root##*/}/cgroup.procs"
umount "$root/sys/fs/cgroup"
echo forking
exec unshare --cgroup --pid --fork --kill-child bash -euc "$2" boot "$root"
`

/** systemd wants /run, /dev and the cgroups to be its own. */
const BOOT = `
root=$1
mount -t cgroup2 cgroup2 "$root/sys/fs/cgroup"
mount -t proc proc "$root/proc"
mount -t tmpfs tmpfs "$root/run"
mount -t tmpfs tmpfs "$root/dev"
for node in null zero full random urandom tty; do
  touch "$root/dev/$node"
  mount --bind "/dev/$node" "$root/dev/$node"
done
mkdir "$root/dev/pts" "$root/dev/shm"
ln -s /proc/self/fd "$root/dev/fd"
mount -t devpts devpts "$root/dev/pts" -o newinstance
ip link set lo up
exec chroot "$root" /usr/bin/env -i container=hailo-test PATH=${PATH} /lib/systemd/systemd --unit=multi-user.target
`

const REMOVE_CGROUP = `
mount -t cgroup2 cgroup2 /mnt
find "/mnt/\${1##*/}" -depth -type d -exec rmdir {} +
`

/** The process that the last unshare has forked. Those before are of the shell that becomes it. */
async function childOf({ pid }: ChildProcess, said: () => string): Promise<number> {
  const children = `/proc/${pid}/task/${pid}/children`
  while (existsSync(children)) {
    const [child] = readFileSync(children, 'utf8').split(' ').filter(Boolean)
    if (said().includes('forking\n') && child !== undefined) return Number(child)
    await sleep(10)
  }
  throw new Error(`systemd did not start:\n${said()}`)
}
