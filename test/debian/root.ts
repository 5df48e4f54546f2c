import { type ChildProcess, execFile, spawn, spawnSync } from 'node:child_process'
import {
  chmodSync,
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  renameSync,
  rmSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { promisify } from 'node:util'

export type Suite = 'bookworm' | 'trixie'

export interface RunOptions {
  readonly cwd?: string
  readonly env?: Readonly<Record<string, string>>
  /** None but an own loopback interface: ports of it are nobody else's. By default the network of this machine. */
  readonly offline?: boolean
  /** Nothing in it can be written to but /run. */
  readonly readOnly?: boolean
  /** `name` or `uid:gid`. By default root. */
  readonly user?: string
}

/** Why no Debian root can be made here, or null: it takes root, mmdebstrap, and namespaces. */
export function noDebianRoots(): string | null {
  if (process.getuid?.() !== 0) return 'needs to be root'
  if (spawnSync('mmdebstrap', ['--version']).status !== 0) return 'needs mmdebstrap'
  if (spawnSync('unshare', [...NAMESPACES, 'true']).status !== 0) return 'may not make namespaces'
  return null
}

const NAMESPACES = ['--mount', '--pid', '--fork', '--kill-child']
const CERTIFICATES = '/etc/ssl/certs/ca-certificates.crt'
const OWN_CERTIFICATES = '/usr/local/share/ca-certificates'
const MAX_OUTPUT_BYTES = 64 * 1024 * 1024
const PATH = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin'

/** Kept between the files of a run, and between runs: a suite with the fewest packages that apt needs. */
const BASES = join(tmpdir(), `hailo-inference-debian-${process.getuid?.()}`)
const BASE_AGE_MS = 24 * 3600 * 1000

/**
 * A clean Debian in a folder of its own, as root sees it after the installer: what commands do there
 * stays there. Processes that are left when a command ends are killed.
 */
export class DebianRoot {
  readonly folder: string

  private constructor(folder: string) {
    this.folder = folder
  }

  /** @param packages besides those that every Debian has, and certificates */
  static async create(suite: Suite, packages: readonly string[] = []): Promise<DebianRoot> {
    const root = new DebianRoot(mkdtempSync(join(tmpdir(), `hailo-inference-${suite}-`)))
    await promisify(execFile)('cp', ['-aT', await base(suite), root.folder])
    if (packages.length > 0) await root.install(packages)
    return root
  }

  /** What something else has made, as an image; it ends with that. */
  static in(folder: string): DebianRoot {
    return new DebianRoot(folder)
  }

  /** Without what they recommend. */
  async install(packages: readonly string[]): Promise<void> {
    const env = { DEBIAN_FRONTEND: 'noninteractive' }
    await this.run(['apt-get', 'install', '-qq', '-y', '--no-install-recommends', ...packages], { env })
  }

  /**
   * @returns what it printed on both
   * @throws Error with that, when it does not exit with 0
   */
  async run(command: readonly string[], options: RunOptions = {}): Promise<string> {
    const child = this.start(command, options)
    let output = ''
    for (const stream of [child.stdout, child.stderr]) {
      stream?.setEncoding('utf8').on('data', text => {
        output = (output + text).slice(-MAX_OUTPUT_BYTES)
      })
    }
    const code = await new Promise(resolve => child.once('close', (code, signal) => resolve(code ?? signal)))
    if (code !== 0) throw new Error(`${command.join(' ')} ended with ${code}:\n${output}`)
    return output
  }

  /** Lines for bash, which stops at the first that fails. */
  shell(lines: string, options: RunOptions = {}): Promise<string> {
    return this.run(['bash', '-euo', 'pipefail', '-c', lines], options)
  }

  /** A process that is killed, with all that it started, when its handle is. */
  start(command: readonly string[], options: RunOptions = {}): ChildProcess {
    const { cwd = '/root', env = {}, offline = false, readOnly = false, user } = options
    const enter = user === undefined ? [] : ['--userspec', user]
    const isolated = offline ? ['--net'] : []
    return spawn(
      'unshare',
      [
        ...NAMESPACES,
        ...isolated,
        'bash',
        '-euc',
        ENTER,
        'enter',
        this.folder,
        cwd,
        `${offline}`,
        `${readOnly}`,
        ...enter,
        '--',
        ...command,
      ],
      {
        env: { PATH, HOME: '/root', LANG: 'C.UTF-8', NODE_EXTRA_CA_CERTS: CERTIFICATES, ...env },
        stdio: ['ignore', 'pipe', 'pipe'],
      },
    )
  }

  /** What is committed and what is not, without what is ignored: what a clone would have. */
  copyProject(to: string): void {
    const files = spawnSync('git', ['ls-files', '-z', '--cached', '--others', '--exclude-standard'], {
      encoding: 'utf8',
    }).stdout
    for (const file of files.split('\0')) {
      if (file === '' || !existsSync(file)) continue
      const target = this.path(join(to, file))
      mkdirSync(dirname(target), { recursive: true })
      cpSync(file, target)
    }
  }

  /** Of a file in it, for this machine. */
  path(file: string): string {
    return join(this.folder, file)
  }

  close(): void {
    rmSync(this.folder, { recursive: true, force: true })
  }
}

/** The folder, where to work in it, whether it is offline, and read-only; then options of chroot, and the command behind `--`. */
const ENTER = `
folder=$1 cwd=$2 offline=$3 read_only=$4
shift 4
mount --make-rprivate /
mount --bind "$folder" "$folder"
mount -t proc proc "$folder/proc"
mount --rbind /dev "$folder/dev"
mount -t tmpfs tmpfs "$folder/run"
[ "$read_only" = false ] || mount -o remount,bind,ro "$folder"
[ "$offline" = false ] || chroot "$folder" ip link set lo up
options=()
while [ "$1" != -- ]; do options+=("$1"); shift; done
shift
exec chroot "\${options[@]}" "$folder" /usr/bin/env -C "$cwd" "$@"
`

async function base(suite: Suite): Promise<string> {
  const folder = join(BASES, suite)
  const stamp = join(folder, 'etc', 'made-at')
  if (existsSync(stamp) && Date.now() - Number(readFileSync(stamp, 'utf8')) < BASE_AGE_MS) return folder
  mkdirSync(BASES, { recursive: true, mode: 0o700 })
  const made = mkdtempSync(join(BASES, `${suite}-`))
  const packages = ['ca-certificates', 'iproute2']
  await promisify(execFile)('mmdebstrap', [
    '--quiet',
    '--variant=apt',
    '--aptopt=Acquire::Retries "3"',
    '--format=directory',
    `--include=${packages.join(',')}`,
    '--dpkgopt=force-unsafe-io', // nothing in it has to outlive a power cut
    // A machine that meets the network through a proxy has its certificate there.
    ...(existsSync(OWN_CERTIFICATES)
      ? [
          `--customize-hook=copy-in ${OWN_CERTIFICATES} /usr/local/share`,
          '--customize-hook=chroot "$1" update-ca-certificates',
        ]
      : []),
    '--customize-hook=copy-in /etc/resolv.conf /etc',
    `--customize-hook=date +%s000 > "$1/etc/made-at"`,
    '--skip=cleanup/apt/lists',
    suite,
    made,
  ])
  chmodSync(made, 0o755)
  rmSync(folder, { recursive: true, force: true }) // another may have made one meanwhile
  renameSync(made, folder)
  return folder
}
