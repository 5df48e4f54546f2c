import { cpSync } from 'node:fs'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { VERSION } from '../../src/project.ts'
import { DebianRoot, noDebianRoots } from './root.ts'

const PARTS = ['engine', 'client', 'buildx', 'compose', 'emulation', 'daemon', 'builder']

describe.skipIf(noDebianRoots() !== null)('images/setup-server.sh, on a fresh Debian without systemd', () => {
  let server: DebianRoot

  beforeAll(async () => {
    server = await DebianRoot.create('trixie', ['mount'])
    cpSync('images', server.path('/root/images'), { recursive: true })
  })
  afterAll(() => server.close())

  /** What it printed, and its exit code in the last line. */
  const setUp = (options = '', { offline = false } = {}) =>
    server.shell(`code=0; images/setup-server.sh ${options} || code=$?; echo "ended with $code"`, { offline })

  const packages = () =>
    server.shell('dpkg-query --show | sort; find /etc -newer /root/images -type f | sort')

  test('--check says what is missing and changes nothing; then all of it is there, and stays as it is', async () => {
    const before = await packages()
    expect(await setUp('--check')).toBe(
      'missing  engine\nmissing  client\nmissing  buildx\nmissing  compose\nmissing  emulation\n' +
        'ok       daemon\nok       builder\nended with 1\n',
    )
    expect(await packages()).toBe(before)

    const allThere = `${PARTS.map(part => `ok       ${part}\n`).join('')}ended with 0\n`
    expect(await setUp()).toBe(
      `installing docker.io docker-cli docker-buildx docker-compose qemu-user-static\n${allThere}`,
    )
    const after = await packages()
    expect(await setUp('', { offline: true })).toBe(allThere)
    expect(await setUp('--check', { offline: true })).toBe(allThere)
    expect(await packages()).toBe(after)
  })

  test('what it installs reads images/docker-bake.hcl: two images for both platforms, the compiler for x86-64', async () => {
    const bake = async (settings: string, ...targets: string[]) => {
      const command = `${settings} docker buildx bake -f images/docker-bake.hcl --print ${targets.join(' ')} 2>/dev/null`
      return JSON.parse(await server.shell(command, { offline: true })).target
    }
    const { runtime, device, ...others } = await bake('')
    expect(others).toEqual({})
    expect(runtime).toMatchObject({
      context: '.',
      dockerfile: 'images/runtime/Dockerfile',
      platforms: ['linux/amd64', 'linux/arm64'],
      tags: [`hailo-inference:${VERSION}`],
      args: { VERSION },
    })
    expect(device).toMatchObject({
      platforms: runtime.platforms,
      tags: [`hailo-inference:${VERSION}-device`],
      args: { VERSION, STAGE_OPTIONS: '--without-onnx' },
    })
    const { compiler, ...own } = await bake(
      'REGISTRY=ghcr.io/me VERSION=9.9.9 REVISION=abc',
      'compiler',
      'runtime',
    )
    expect(compiler).toMatchObject({
      context: 'images/compiler',
      platforms: ['linux/amd64'],
      tags: ['ghcr.io/me/hailo-inference-compiler:9.9.9'],
    })
    expect(own.runtime).toMatchObject({
      tags: ['ghcr.io/me/hailo-inference:9.9.9'],
      args: { VERSION: '9.9.9', REVISION: 'abc' },
    })
  })

  test('where a daemon runs it makes a builder for both platforms, once', async () => {
    const printed = await server.shell(
      `mount -t sysfs sysfs /sys && mount -t cgroup2 cgroup2 /sys/fs/cgroup
      dockerd --iptables=false --ip6tables=false --bridge=none --storage-driver=vfs > /tmp/dockerd.log 2>&1 & daemon=$!
      until docker version > /dev/null 2>&1; do kill -0 $daemon || { cat /tmp/dockerd.log; exit 1; }; sleep 0.1; done
      images/setup-server.sh --check | grep builder || true
      images/setup-server.sh | grep builder
      images/setup-server.sh | grep builder
      docker buildx inspect hailo-inference | grep Platforms
      kill $daemon && wait $daemon`,
      { offline: true },
    )
    expect(printed.replace(/ +/g, ' ')).toBe(
      'missing builder\nmaking the builder hailo-inference\nok builder\nok builder\n' +
        'Platforms: linux/amd64*, linux/arm64*\n',
    )
  })

  test('it says what it wants when it is called wrongly', async () => {
    expect(await setUp('--chekc')).toMatch(/^Usage: .*ended with 64\n$/s)
    expect(await setUp('--help')).toMatch(/^Usage: .*ended with 0\n$/s)
  })
})
