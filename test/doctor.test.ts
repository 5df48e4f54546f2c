import { execFile } from 'node:child_process'
import { once } from 'node:events'
import { copyFileSync, cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:http'
import { type AddressInfo, createServer as createTcpServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, onTestFinished, test, vi } from 'vitest'
import { build } from '../native/build.ts'
import { certificateOf } from '../src/certificate.ts'
import type { Check, Finding } from '../src/doctor/check.ts'
import { ok } from '../src/doctor/check.ts'
import { CHECKS, examine, type Result } from '../src/doctor/examine.ts'
import { Facts } from '../src/doctor/facts.ts'
import {
  ADDON_PATH,
  type Answer,
  type DeviceFacts,
  type LibraryFacts,
  type ModelFacts,
  type ProbeName,
} from '../src/doctor/probes.ts'
import type { System, User } from '../src/doctor/system.ts'
import { thisSystem } from '../src/doctor/system.ts'
import { PROJECT_FOLDER, SHIPPED_MODEL_FOLDER } from '../src/project.ts'
import { buildNative, COMPILER, SOFT_LIBRARY } from './native.ts'

const FOLDER = mkdtempSync(join(tmpdir(), 'doctor-'))
afterAll(() => rmSync(FOLDER, { recursive: true }))

type Env = Record<string, string>
const ONNX: Env = {}
const STUB: Env = { INFER_MODE: 'stub' }
const HAILO: Env = { INFER_MODE: 'hailo', HEF_PATH: '/models/tcn.hef' }

describe('Node.js', () => {
  test('passes on a version that the engine is tested with', async () => {
    expect(await findingOf('Node.js')).toEqual(ok('22.12.0 on linux arm64'))
  })

  test('fails below 20.19, and warns of one that is untested', async () => {
    const old = await findingOf('Node.js', { nodeVersion: '20.18.3' })
    expect(old.status).toBe('fail')
    expect(old.found).toBe('20.18.3 on linux arm64 is too old')
    expect(old.remedy).toMatch('Install Node.js 20.19')
    expect((await findingOf('Node.js', { nodeVersion: '18.20.0' })).status).toBe('fail')
    expect((await findingOf('Node.js', { nodeVersion: '23.1.0' })).status).toBe('warn')
  })
})

describe('uWebSockets.js', () => {
  test('passes when its binary loads, and names both', async () => {
    expect(await findingOf('uWebSockets.js')).toEqual(ok('20.51.0, uws_linux_arm64_127.node'))
  })

  test('fails with the sentence of the package when no binary fits', async () => {
    const message =
      'No uWebSockets.js binary fits Node.js 24.1.0 on linux arm64: use Node.js 20.19 or 22 and run npm ci with it.'
    expect(await findingOf('uWebSockets.js', { probes: { uWebSockets: { error: message } } })).toEqual({
      status: 'fail',
      found: 'No uWebSockets.js binary fits Node.js 24.1.0 on linux arm64',
      remedy: 'Use Node.js 20.19 or 22 and run npm ci with it',
    })
  })

  test('fails when loading it ends the process', async () => {
    const error = 'trying it ended the process with SIGILL'
    const finding = await findingOf('uWebSockets.js', { probes: { uWebSockets: { error } } })
    expect(finding).toEqual({ status: 'fail', found: error, remedy: 'Run `npm ci` with this Node.js' })
  })
})

describe('ONNX Runtime', () => {
  const broken = { probes: { onnxruntime: { error: "Cannot find module 'onnxruntime-node'" } } }

  test('passes when it loads', async () => {
    expect(await findingOf('ONNX Runtime', {}, ONNX)).toEqual(ok('1.30.0'))
  })

  test('fails when it does not, as the mode or as the fallback', async () => {
    for (const env of [ONNX, { ...HAILO, FALLBACK: 'onnx' }]) {
      const finding = await findingOf('ONNX Runtime', broken, env)
      expect(finding.status).toBe('fail')
      expect(finding.found).toBe("Cannot find module 'onnxruntime-node'")
      expect(finding.remedy).toMatch('npm ci')
    }
  })

  test('is not needed in other modes', async () => {
    expect(await findingOf('ONNX Runtime', broken, HAILO)).toMatchObject({ status: 'skip' })
    expect(await findingOf('ONNX Runtime', broken, STUB)).toMatchObject({ status: 'skip' })
  })
})

describe('native addon', () => {
  const absent = { files: { [ADDON_PATH]: undefined } }

  test('passes when it loads', async () => {
    expect(await findingOf('native addon')).toEqual(ok(ADDON_PATH))
  })

  test('fails when it is not compiled, and tells whether there is a compiler', async () => {
    const without = await findingOf('native addon', { ...absent, probes: { compiler: { value: null } } })
    expect(without.status).toBe('fail')
    expect(without.found).toBe('not compiled, and there is no C++ compiler')
    expect(without.remedy).toMatch(/apt install g\+\+.*npm run native/)
    const withOne = await findingOf('native addon', { ...absent, probes: { compiler: { value: 'g++' } } })
    expect(withOne.found).toBe('not compiled; the compiler for it is there (g++)')
    expect(withOne.remedy).toBe('Run `npm run native`')
  })

  test('fails when it does not load, as one that was compiled on another machine', async () => {
    const finding = await findingOf('native addon', {
      probes: { addon: { error: 'invalid ELF header' } },
    })
    expect(finding.status).toBe('fail')
    expect(finding.found).toMatch('does not load: invalid ELF header')
    expect(finding.remedy).toBe('Run `npm run native` on this machine')
  })

  test('is not needed in onnx mode, but told of when it is there', async () => {
    expect(await findingOf('native addon', absent, ONNX)).toMatchObject({
      status: 'skip',
      found: 'not compiled, not needed in onnx mode',
    })
    expect(await findingOf('native addon', {}, ONNX)).toMatchObject({
      status: 'skip',
      found: 'compiled and loads, not needed in onnx mode',
    })
  })
})

describe('HailoRT', () => {
  test('passes when a supported release opens', async () => {
    expect(await findingOf('HailoRT')).toEqual(ok('4.23.0, /usr/lib/libhailort.so.4.23.0'))
    expect(await findingOf('HailoRT', { probes: { library: SOFTWARE } })).toEqual(
      ok('4.23.0, the software HailoRT, native/build/libhailort.so'),
    )
  })

  test('fails when it is missing or not supported, and says what to install', async () => {
    const problem =
      'libhailort.so is HailoRT 5.2.0, expected 4.17.1 to 4.23. Install HailoRT 4.17.1 to 4.23 for Hailo-8'
    const value = { isSoftware: false, opened: null, problem }
    expect(await findingOf('HailoRT', { probes: { library: { value } } })).toEqual({
      status: 'fail',
      found: 'libhailort.so is HailoRT 5.2.0, expected 4.17.1 to 4.23',
      remedy: 'Install HailoRT 4.17.1 to 4.23 for Hailo-8',
    })
  })

  test('fails when it ends the process that opens it', async () => {
    const error = 'trying it ended the process with SIGSEGV'
    const finding = await findingOf('HailoRT', { probes: { library: { error } } })
    expect(finding).toMatchObject({ status: 'fail', found: error })
    expect(finding.remedy).toMatch('Install HailoRT 4.17.1 to 4.23')
  })

  test('is skipped without the addon, which opens it', async () => {
    const finding = await findingOf('HailoRT', { probes: { addon: { error: 'not there' } } })
    expect(finding).toMatchObject({ status: 'skip', found: 'the native addon does not load' })
  })
})

describe('configuration', () => {
  test('passes and tells the mode', async () => {
    expect(await findingOf('configuration', {}, ONNX)).toEqual(ok('mode onnx'))
    expect(await findingOf('configuration', {}, { ...HAILO, FALLBACK: 'onnx' })).toEqual(
      ok('mode hailo, else onnx'),
    )
  })

  test('fails with every problem, and checks of what it names are skipped', async () => {
    const env = { INFER_MODE: 'tpu', WORKERS: '99' }
    const finding = await findingOf('configuration', {}, env)
    expect(finding.status).toBe('fail')
    expect(finding.found.split('\n')).toEqual([
      expect.stringMatching('INFER_MODE: tpu is not valid'),
      expect.stringMatching('WORKERS: 99 is not valid'),
    ])
    expect(finding.remedy).toMatch('docs/env.md')
    const skipped = ['model', 'fallback model', 'HailoRT', 'driver', 'port', 'TLS', 'CPUs', 'ONNX Runtime']
    for (const name of skipped) {
      expect(await findingOf(name, {}, env)).toMatchObject({
        status: 'skip',
        found: 'the configuration is not valid',
      })
    }
  })

  test('warns of keys without effect', async () => {
    const finding = await findingOf('configuration', {}, { HAILO_DEVICE_ID: '0001:01:00.0' })
    expect(finding).toEqual({
      status: 'warn',
      found: 'mode onnx; without effect: HAILO_DEVICE_ID',
      remedy: 'Unset HAILO_DEVICE_ID',
    })
  })
})

describe('model', () => {
  test('passes with golden vectors, and tells what a HEF is', async () => {
    expect(await findingOf('model')).toEqual(
      ok(
        'tcn 1.0.0, sha256 0123456789ab, HEF for hailo8p, header version 1, compiler 3.29.0, /models/tcn.hef, 64 golden windows',
      ),
    )
  })

  test('fails in the words of the ModelError, the remedy apart', async () => {
    const error =
      '/models/tcn.hef: Cannot use HEF: an empty file, expected a compiled HEF. Fetch it again or compile it'
    expect(await findingOf('model', { probes: { model: { error } } })).toEqual({
      status: 'fail',
      found: '/models/tcn.hef: Cannot use HEF: an empty file, expected a compiled HEF',
      remedy: 'Fetch it again or compile it',
    })
  })

  test('fails when it cannot be read in time', async () => {
    const finding = await findingOf('model', { probes: { model: { error: 'no answer within 4 s' } } })
    expect(finding).toMatchObject({ status: 'fail', found: 'no answer within 4 s' })
    expect(finding.remedy).toMatch('Set HEF_PATH or ONNX_PATH')
  })

  test('warns when nothing checks its answers, and of motifs that EdgeInfer does not take', async () => {
    const unchecked = await findingOf('model', { probes: { model: modelWith({ goldenWindows: 0 }) } })
    expect(unchecked).toMatchObject({ status: 'warn', found: expect.stringMatching('no golden vectors') })
    expect(unchecked.remedy).toMatch('golden.json')
    const motifs = await findingOf('model', {}, { ...HAILO, NUM_MOTIFS: '7' })
    expect(motifs).toMatchObject({ status: 'warn', found: expect.stringMatching('with 7 motifs') })
  })

  test('is skipped in stub mode', async () => {
    expect(await findingOf('model', {}, STUB)).toMatchObject({ status: 'skip' })
  })
})

describe('fallback model', () => {
  const env = { ...HAILO, FALLBACK: 'onnx' }

  test('passes when it can stand in for the model', async () => {
    expect((await findingOf('fallback model', {}, env)).status).toBe('ok')
    expect((await findingOf('fallback model', {}, HAILO)).status).toBe('skip')
  })

  test('fails when it cannot', async () => {
    const error =
      'model.json: motif_labels a b, expected c d. Set ONNX_PATH to the same model, or FALLBACK=none'
    const finding = await findingOf('fallback model', { probes: { fallback: { error } } }, env)
    expect((await findingOf('fallback model', { probes: { model: { error } } }, env)).status).toBe('skip')
    expect(finding).toMatchObject({
      status: 'fail',
      remedy: 'Set ONNX_PATH to the same model, or FALLBACK=none',
    })
  })
})

describe('HEF for the device', () => {
  test('passes when the device runs it', async () => {
    expect(await findingOf('HEF for the device')).toEqual(ok('hailo8p, the device is HAILO-8 AI ACC'))
    const soft = { library: SOFTWARE, devices: SOFTWARE_DEVICES, model: modelWith({}, { software: true }) }
    expect((await findingOf('HEF for the device', { probes: soft })).status).toBe('ok')
  })

  test('fails for a HEF that was compiled for another device', async () => {
    const model = modelWith({}, { architecture: 'hailo8l' })
    const finding = await findingOf('HEF for the device', { probes: { model } })
    expect(finding.status).toBe('fail')
    expect(finding.found).toMatch('compiled for the Hailo-8L')
    expect(finding.remedy).toBe('Recompile the model with hw_arch=hailo8')
  })

  test('fails for a soft HEF on a device, and for a compiled one on the software HailoRT', async () => {
    const soft = await findingOf('HEF for the device', {
      probes: { model: modelWith({}, { software: true }) },
    })
    expect(soft.status).toBe('fail')
    expect(soft.remedy).toMatch('Set HEF_PATH to a HEF that the Hailo Dataflow Compiler made')
    const compiled = await findingOf('HEF for the device', {
      probes: { library: SOFTWARE, devices: SOFTWARE_DEVICES },
    })
    expect(compiled.status).toBe('fail')
    expect(compiled.remedy).toMatch('npm run hef:soft')
  })

  test('fails on a device that the engine does not know, and for a header that the library does not', async () => {
    const devices = { value: [{ ...DEVICE, architecture: 'hailo10h' }] }
    const other = await findingOf('HEF for the device', { probes: { devices } })
    expect(other).toMatchObject({ status: 'fail', found: 'device 0001:01:00.0 is a hailo10h' })
    expect(other.remedy).toMatch('Use a Hailo-8 or a Hailo-8L')
    const header = await findingOf('HEF for the device', {
      probes: { model: modelWith({}, { headerVersion: 3 }), library: libraryOf('4.20.0') },
    })
    expect(header).toMatchObject({
      status: 'fail',
      found: 'its header version 3 is newer than HailoRT 4.20.0',
    })
    expect(header.remedy).toMatch('Install HailoRT 4.21 or newer')
  })

  test('compares with the device that HAILO_DEVICE_ID asks for', async () => {
    const devices = { value: [{ ...DEVICE, id: '0000:05:00.0', architecture: 'hailo8l' }, DEVICE] }
    expect((await findingOf('HEF for the device', { probes: { devices } })).status).toBe('fail')
    const env = { ...HAILO, HAILO_DEVICE_ID: DEVICE.id }
    expect((await findingOf('HEF for the device', { probes: { devices } }, env)).status).toBe('ok')
  })

  test('is skipped when there is nothing to compare', async () => {
    const devices = { error: 'gone' }
    expect((await findingOf('HEF for the device', { probes: { devices } })).status).toBe('skip')
    expect((await findingOf('HEF for the device', { probes: { model: { error: 'bad' } } })).status).toBe(
      'skip',
    )
  })
})

const WITHOUT_PCI = { '/sys/bus/pci/devices/0001:01:00.0/vendor': undefined }
const WITHOUT_DRIVER = { '/proc/modules': 'nvme 1 0\n', '/sys/module/hailo_pci/version': undefined }
const WITHOUT_NODE = { '/dev/hailo0': undefined }
const IN_CONTAINER = { '/.dockerenv': '' }

describe('PCI device', () => {
  test('passes when one of Hailo is on the bus, or its node is here', async () => {
    expect(await findingOf('PCI device')).toEqual(ok('0001:01:00.0'))
    expect((await findingOf('PCI device', { files: WITHOUT_PCI })).status).toBe('ok')
  })

  test('fails when there is neither', async () => {
    const finding = await findingOf('PCI device', { files: { ...WITHOUT_PCI, ...WITHOUT_NODE } })
    expect(finding).toMatchObject({ status: 'fail', found: 'no Hailo on the PCI bus' })
    expect(finding.remedy).toMatch('dtparam=pciex1')
  })
})

describe('driver', () => {
  test('passes when it is loaded in the version of the library', async () => {
    expect(await findingOf('driver')).toEqual(ok('hailo_pci 4.23.0, the version of the library'))
  })

  test('fails when it is not loaded though the device is there', async () => {
    const finding = await findingOf('driver', { files: { ...WITHOUT_DRIVER, ...WITHOUT_NODE } })
    expect(finding).toMatchObject({ status: 'fail', found: 'hailo_pci is not loaded' })
    expect(finding.remedy).toMatch('sudo modprobe hailo_pci')
  })

  test('fails when its version is not exactly that of the library', async () => {
    const probes = { library: libraryOf('4.20.1') }
    const files = { '/sys/module/hailo_pci/version': '4.20.0\n' }
    const finding = await findingOf('driver', { probes, files })
    expect(finding).toMatchObject({ status: 'fail', found: 'hailo_pci 4.20.0, but the library is 4.20.1' })
    expect(finding.remedy).toMatch('Install driver and library of one version')
    const inContainer = await findingOf('driver', { probes, files: { ...files, ...IN_CONTAINER } })
    expect(inContainer.remedy).toMatch('Take an image with HailoRT 4.20.0')
  })

  test('is skipped without a device that needs it', async () => {
    const files = { ...WITHOUT_PCI, ...WITHOUT_DRIVER }
    expect((await findingOf('driver', { files })).status).toBe('skip')
  })
})

describe('device node', () => {
  test('passes when this user may read and write it', async () => {
    expect(await findingOf('device node')).toEqual(ok('/dev/hailo0, readable and writable'))
  })

  test('fails when the driver did not make it, or the container was not given it', async () => {
    const finding = await findingOf('device node', { files: WITHOUT_NODE })
    expect(finding).toMatchObject({ status: 'fail', found: 'no /dev/hailo*' })
    expect(finding.remedy).toMatch('dmesg')
    const inContainer = await findingOf('device node', { files: { ...WITHOUT_NODE, ...IN_CONTAINER } })
    expect(inContainer.remedy).toMatch('devices: ["/dev/hailo0:/dev/hailo0"]')
  })

  test('fails when this user is not in its group, and names the group', async () => {
    const isWritable = false
    const finding = await findingOf('device node', { isWritable })
    expect(finding.status).toBe('fail')
    expect(finding.found).toBe(
      '/dev/hailo0 belongs to group hailo, and pi may not read and write it, not being in it',
    )
    expect(finding.remedy).toMatch('Run `sudo usermod -aG hailo pi` and log in again')
    expect(finding.remedy).toMatch('group_add: ["996"]')
    const inContainer = await findingOf('device node', { isWritable, files: IN_CONTAINER })
    expect(inContainer.remedy).toBe('Add the group to the container: group_add: ["996"]')
    const added = { '/etc/group': 'root:x:0:\nhailo:x:996:somebody,pi\n' }
    const sinceLogin = await findingOf('device node', { isWritable, files: added })
    expect(sinceLogin.remedy).toBe('Log out and in again')
    const member = { uid: 1000, name: 'pi', groups: [1000, 996] }
    const givenReadOnly = await findingOf('device node', { isWritable, user: member })
    expect(givenReadOnly.remedy).toMatch('devices: ["/dev/hailo0:/dev/hailo0:rw"]')
  })

  test('fails when it is for root alone, and names the udev rule', async () => {
    const finding = await findingOf('device node', { isWritable: false, node: { gid: 0, mode: 0o20600 } })
    expect(finding.found).toMatch('belongs to group root')
    expect(finding.remedy).toMatch('51-hailo-udev.rules')
  })

  test('is skipped when what makes it is missing', async () => {
    const files = { ...WITHOUT_NODE, ...WITHOUT_DRIVER }
    expect((await findingOf('device node', { files })).status).toBe('skip')
    expect((await findingOf('device node', { files: { ...WITHOUT_NODE, ...WITHOUT_PCI } })).status).toBe(
      'skip',
    )
  })
})

describe('page size', () => {
  const PAGES_OF_16_KIB = { '/proc/self/smaps': 'Size: 64 kB\nKernelPageSize:       16 kB\n' }
  const PARAMETER = '/sys/module/hailo_pci/parameters/force_desc_page_size'

  test('passes with 4 KiB, and with 16 KiB when the driver is told', async () => {
    expect(await findingOf('page size')).toEqual(ok('4 KiB'))
    const told = { ...PAGES_OF_16_KIB, [PARAMETER]: '4096\n' }
    expect(await findingOf('page size', { files: told })).toEqual(
      ok('16 KiB, with force_desc_page_size=4096'),
    )
  })

  test('warns of 16 KiB when it is not', async () => {
    const finding = await findingOf('page size', { files: { ...PAGES_OF_16_KIB, [PARAMETER]: '0\n' } })
    expect(finding.status).toBe('warn')
    expect(finding.found).toMatch('16 KiB')
    expect(finding.remedy).toMatch('options hailo_pci force_desc_page_size=4096')
    const tooLarge = { ...PAGES_OF_16_KIB, [PARAMETER]: '16384\n' }
    expect((await findingOf('page size', { files: tooLarge })).status).toBe('warn')
  })
})

describe('devices', () => {
  test('passes when the one that is asked for is listed', async () => {
    expect(await findingOf('devices')).toEqual(ok('0001:01:00.0 hailo8, firmware 4.23.0'))
    const env = { ...HAILO, HAILO_DEVICE_ID: '0001:01:00.0' }
    expect((await findingOf('devices', {}, env)).status).toBe('ok')
  })

  test('fails when none is listed', async () => {
    const none = { value: [] }
    const finding = await findingOf('devices', { probes: { devices: none } })
    expect(finding).toMatchObject({ status: 'fail', found: 'HailoRT lists none' })
    expect(finding.remedy).toMatch('Mend what fails above')
    const software = await findingOf('devices', { probes: { devices: none, library: SOFTWARE } })
    expect(software.remedy).toBe('Set SOFTHAILORT_DEVICES to 1 or more')
  })

  test('fails when HAILO_DEVICE_ID is not among them', async () => {
    const finding = await findingOf('devices', {}, { ...HAILO, HAILO_DEVICE_ID: '0000:09:00.0' })
    expect(finding.status).toBe('fail')
    expect(finding.found).toBe('HAILO_DEVICE_ID is 0000:09:00.0, and HailoRT lists 0001:01:00.0')
    expect(finding.remedy).toBe('Set HAILO_DEVICE_ID to 0001:01:00.0, or unset it for any')
  })

  test('fails when the firmware is not of the version of the library', async () => {
    const devices = { value: [{ ...DEVICE, firmware: '4.20.0' }] }
    const finding = await findingOf('devices', { probes: { devices } })
    expect(finding.status).toBe('fail')
    expect(finding.found).toBe('0001:01:00.0 has firmware 4.20.0, but the library is 4.23.0')
    expect(finding.remedy).toMatch('of one version and reboot')
  })

  test('fails when a device does not answer', async () => {
    const devices = { error: 'Cannot identify the device: HAILO_TIMEOUT (4)' }
    const finding = await findingOf('devices', { probes: { devices } })
    expect(finding).toMatchObject({ status: 'fail', found: devices.error })
    expect(finding.remedy).toMatch('power cycle')
  })
})

describe('free device', () => {
  const heldBy = (name: string, cmdline = name) => ({
    links: { '/proc/77/fd/5': '/dev/hailo0', '/proc/77/fd/6': '/dev/null' },
    files: { '/proc/77/comm': `${name}\n`, '/proc/77/cmdline': `${cmdline}\0` },
  })

  test('passes when nobody has it open, ourselves not counted', async () => {
    expect(await findingOf('free device', { links: { '/proc/4242/fd/9': '/dev/hailo0' } })).toEqual(
      ok('no process has /dev/hailo0 open'),
    )
  })

  test('fails and names who has it', async () => {
    const finding = await findingOf('free device', heldBy('frigate'))
    expect(finding).toMatchObject({ status: 'fail', found: '/dev/hailo0 is open in frigate (pid 77)' })
    expect(finding.remedy).toMatch('Stop it')
    const service = await findingOf('free device', heldBy('hailort_service'))
    expect(service.remedy).toMatch('sudo systemctl disable --now hailort')
    const engine = await findingOf('free device', heldBy('node', 'node\0dist/src/main.js'))
    expect(engine.found).toMatch('open in another hailo-inference (pid 77)')
  })

  test('passes when another device is left, unless HAILO_DEVICE_ID asks for the one that is held', async () => {
    const two = heldBy('frigate')
    const second = {
      '/dev/hailo1': '',
      '/sys/class/hailo_chardev/hailo1/board_location': '0001:04:00.0\n',
    }
    const machine = { ...two, files: { ...two.files, ...second } }
    expect((await findingOf('free device', machine)).status).toBe('ok')
    const held = { ...HAILO, HAILO_DEVICE_ID: '0001:01:00.0' }
    expect((await findingOf('free device', machine, held)).status).toBe('fail')
    const free = { ...HAILO, HAILO_DEVICE_ID: '0001:04:00.0' }
    expect((await findingOf('free device', machine, free)).status).toBe('ok')
  })

  test('tells what it cannot see', async () => {
    const files = { '/proc/1/comm': 'init', '/proc/2/comm': 'kthreadd', ...IN_CONTAINER }
    const finding = await findingOf('free device', { files, forbidden: ['/proc/1/fd', '/proc/2/fd'] })
    expect(finding).toEqual(
      ok(
        'no process has /dev/hailo0 open; cannot see the files of 2 processes of other users; cannot see processes outside this container',
      ),
    )
  })
})

test('the software HailoRT needs no hardware, and onnx mode needs nothing of Hailo', async () => {
  for (const name of ['PCI device', 'driver', 'device node', 'page size', 'free device']) {
    const software = await findingOf(name, { probes: { library: SOFTWARE } })
    expect(software, name).toEqual({
      status: 'skip',
      found: 'the software HailoRT has no hardware',
      remedy: null,
    })
    expect(await findingOf(name, {}, ONNX)).toMatchObject({ status: 'skip' })
  }
})

describe('TLS', () => {
  const env = { TLS_CERT: '/c.pem', TLS_KEY: '/c.key' }
  const files = (name: string, key = name) => ({
    '/c.pem': readFileSync(`test/fixtures/tls/${name}.pem`, 'utf8'),
    '/c.key': readFileSync(`test/fixtures/tls/${key}.key`, 'utf8'),
  })

  test('passes with a certificate and its key, and without both', async () => {
    const { status, found } = await findingOf('TLS', { files: files('old') }, env)
    expect([status, found]).toEqual(['ok', expect.stringMatching(/^https .* CN=old\..*, until 2\d{3}-/)])
    expect((await findingOf('TLS', {}, ONNX)).found).toMatch('plain HTTP')
  })

  test('warns before the certificate ends', async () => {
    vi.useFakeTimers({
      now:
        certificateOf({ certPem: files('old')['/c.pem'], keyPem: files('old')['/c.key'] }).notAfterMs -
        86_400_000,
      toFake: ['Date'],
    })
    onTestFinished(() => void vi.useRealTimers())
    const finding = await findingOf('TLS', { files: files('old') }, env)
    expect(finding).toMatchObject({ status: 'warn', found: expect.stringMatching(/: 1 days$/) })
  })

  test('fails when the key is of another, and when a file cannot be read', async () => {
    const mixed = await findingOf('TLS', { files: files('old', 'new') }, env)
    expect(mixed).toMatchObject({ status: 'fail', found: expect.stringMatching(/^TLS_KEY holds no key/) })
    const finding = await findingOf('TLS', {}, env)
    expect(finding).toMatchObject({ status: 'fail', found: '/c.pem cannot be read' })
  })
})

describe('port', () => {
  test('passes when it is free', async () => {
    expect(await findingOf('port', {}, ONNX)).toEqual(ok('127.0.0.1:9000 is free'))
    expect(await findingOf('port', {}, { PORT: '0' })).toEqual(ok('any free one'))
  })

  test('fails when another program has it, and warns of an engine, which may be the one that is examined', async () => {
    const listen = 'EADDRINUSE'
    const stranger = await findingOf('port', { listen, body: '<html>' }, { SIDECAR_HOST: '::1' })
    expect(stranger).toMatchObject({
      status: 'fail',
      found: '[::1]:9000 is taken: another program listens there',
    })
    expect(stranger.remedy).toMatch(/ss -ltnp.*SIDECAR_PORT/)
    const body = JSON.stringify({ ok: true, config_version: '1', contract: {} })
    const asked: string[] = []
    const engine = await findingOf('port', { listen, body, asked }, { SIDECAR_HOST: '0.0.0.0' })
    expect(engine).toEqual({
      status: 'warn',
      found: '0.0.0.0:9000 is taken: a hailo-inference answers there already',
      remedy:
        'Nothing, if it is the one to be examined. To start another, stop it or set SIDECAR_PORT to another port',
    })
    expect(asked).toEqual(['http://127.0.0.1:9000/healthz'])
  })

  test('asks over HTTPS where that is configured', async () => {
    const asked: string[] = []
    const tls = { TLS_CERT: '/c.pem', TLS_KEY: '/c.key' }
    await findingOf('port', { listen: 'EADDRINUSE', body: '', asked }, tls)
    expect(asked).toEqual(['https://127.0.0.1:9000/healthz'])
  })

  test('fails when this user may not have it, and when the address is not of this machine', async () => {
    const low = await findingOf('port', { listen: 'EACCES' }, { PORT: '80' })
    expect(low).toMatchObject({ status: 'fail', remedy: 'Set SIDECAR_PORT to 1024 or more' })
    const strange = await findingOf('port', { listen: 'EADDRNOTAVAIL' }, { SIDECAR_HOST: '192.0.2.1' })
    expect(strange).toMatchObject({
      status: 'fail',
      found: '192.0.2.1:9000 cannot be listened on: EADDRNOTAVAIL',
    })
    expect(strange.remedy).toMatch('0.0.0.0')
  })

  test('asks real sockets', async () => {
    const taken = createServer((_, response) => response.end('hello')).listen(0, '127.0.0.1')
    const silent = createTcpServer().listen(0, '127.0.0.1')
    await Promise.all([once(taken, 'listening'), once(silent, 'listening')])
    const portOf = (server: typeof taken | typeof silent) => (server.address() as AddressInfo).port
    expect(await thisSystem.tryToListen('127.0.0.1', portOf(taken))).toBe('EADDRINUSE')
    expect(await thisSystem.get(`http://127.0.0.1:${portOf(taken)}/healthz`)).toBe('hello')
    expect(await thisSystem.get(`http://127.0.0.1:${portOf(silent)}/healthz`)).toBeUndefined()
    const port = portOf(taken)
    taken.close()
    taken.closeAllConnections()
    silent.close()
    expect(await thisSystem.tryToListen('127.0.0.1', port)).toBeNull()
  })
})

describe('CPUs', () => {
  test('passes with a CPU for each worker', async () => {
    expect(await findingOf('CPUs', {}, { WORKERS: '3' })).toEqual(ok('4; WORKERS is 3 (by default 3)'))
  })

  test('warns of more workers than CPUs, those that a quota leaves', async () => {
    const groups: Record<string, string>[] = [
      { '/sys/fs/cgroup/cpu.max': '200000 100000\n' },
      {
        '/proc/self/cgroup': '3:cpu,cpuacct:/\n',
        '/sys/fs/cgroup/cpu/cpu.cfs_quota_us': '200000\n',
        '/sys/fs/cgroup/cpu/cpu.cfs_period_us': '100000\n',
      },
    ]
    for (const files of groups) {
      const finding = await findingOf('CPUs', { files }, { WORKERS: '3' })
      expect(finding).toEqual({
        status: 'warn',
        found: '4, of which the cgroup allows 2; WORKERS is 3 (by default 1): more workers than CPUs',
        remedy: 'Set WORKERS to 1: one CPU is for the front door',
      })
    }
    const service = { '/proc/self/cgroup': '0::/system.slice/a.service\n' }
    for (const group of ['system.slice/a.service', 'system.slice']) {
      const files = { ...service, [`/sys/fs/cgroup/${group}/cpu.max`]: '50000 100000' }
      expect((await findingOf('CPUs', { files }, { WORKERS: '2' })).status).toBe('warn')
    }
    const none = { '/sys/fs/cgroup/cpu.max': 'max 100000\n' }
    expect((await findingOf('CPUs', { files: none }, { WORKERS: '3' })).status).toBe('ok')
  })
})

describe('memory', () => {
  test('passes with what the engine needs', async () => {
    expect(await findingOf('memory')).toEqual(ok('8192 MiB in this machine'))
    const files = { '/sys/fs/cgroup/memory.max': String(512 * 2 ** 20) }
    expect(await findingOf('memory', { files })).toEqual(ok('512 MiB allowed by the cgroup'))
  })

  test('warns of less, in either version of cgroups', async () => {
    const limitBytes = String(200 * 2 ** 20)
    const groups: Record<string, string>[] = [
      { '/sys/fs/cgroup/memory.max': limitBytes },
      {
        '/proc/self/cgroup': '4:memory:/box\n0::/\n',
        '/sys/fs/cgroup/memory/memory.limit_in_bytes': '9223372036854771712',
        '/sys/fs/cgroup/memory/box/memory.limit_in_bytes': limitBytes,
      },
    ]
    for (const files of groups) {
      const finding = await findingOf('memory', { files }, { ...HAILO, WORKERS: '2' })
      expect(finding).toEqual({
        status: 'warn',
        found: '200 MiB allowed by the cgroup, and 2 workers may need 256',
        remedy: 'Raise the memory limit to 256 MiB, or set WORKERS lower',
      })
    }
    const many = await findingOf(
      'memory',
      { files: { '/sys/fs/cgroup/memory.max': String(300 * 2 ** 20) } },
      { WORKERS: '8' },
    )
    expect(many).toMatchObject({ status: 'warn', found: expect.stringMatching('8 workers may need 330') })
  })
})

describe('open files', () => {
  test('passes with 1024 or more', async () => {
    expect(await findingOf('open files')).toEqual(ok('1048576 at once'))
  })

  test('warns of fewer', async () => {
    const files = { '/proc/self/limits': 'Max open files            256                  256       files\n' }
    const finding = await findingOf('open files', { files })
    expect(finding).toMatchObject({ status: 'warn', found: '256 at once: every connection takes one' })
    expect(finding.remedy).toMatch('ulimit -n 1024')
  })
})

test('examine() tells of a check that throws or hangs, and hides no other', async () => {
  const checks: Check[] = [
    {
      name: 'throws',
      run: () => {
        throw new Error('oh')
      },
    },
    { name: 'rejects', run: () => Promise.reject(new Error('ah')) },
    { name: 'hangs', run: () => new Promise(() => {}) },
    { name: 'passes', run: () => ok('fine') },
  ]
  const results = await examine(new Facts(machine(), ONNX), checks, 30)
  expect(results.map(({ check, status, found }) => [check, status, found])).toEqual([
    ['throws', 'fail', 'the check itself failed: oh'],
    ['rejects', 'fail', 'the check itself failed: ah'],
    ['hangs', 'fail', 'no result within 0.03 s'],
    ['passes', 'ok', 'fine'],
  ])
})

test('examine() finds nothing wrong with a made-up Raspberry Pi, and asks each probe once', async () => {
  const probed: string[] = []
  const results = await examine(new Facts(machine({ probed }), { ...HAILO, FALLBACK: 'onnx' }))
  expect(results.filter(({ status }) => status !== 'ok')).toEqual([])
  expect(results.map(({ check }) => check)).toEqual([...new Set(results.map(({ check }) => check))])
  expect(probed.sort()).toEqual([...new Set(probed)])
})

describe('the doctor as a program', () => {
  test('finds nothing wrong with the default configuration', async () => {
    const { code, stdout } = await doctor({ SIDECAR_PORT: '0' })
    expect(stdout).not.toMatch('FAIL')
    expect(code).toBe(0)
    expect(stdout).toMatch(/^ok {4}model +\S+ \S+, sha256 \w{12}, .*model_dynamic\.onnx, 64 golden windows$/m)
    expect(stdout).toMatch(/^ok {4}uWebSockets\.js +\d+\.\d+\.\d+, uws_\S+\.node$/m)
    expect(stdout).toMatch(/^ok {4}ONNX Runtime +\d+\.\d+\.\d+$/m)
    expect(stdout).toMatch(/\n\d+ ok, .* 0 failed, .*: ready for `npm start`\n$/)
  })

  test('lists every problem of a bad configuration', async () => {
    const { code, stdout } = await doctor({ INFER_MODE: 'tpu\u001b[31m', WORKERS: '0', API_KEY: 'secret' })
    expect(code).toBe(1)
    expect(stdout).toMatch(
      /^FAIL {2}configuration +INFER_MODE: tpu\?\[31m is not valid.*\n +WORKERS: 0 is not valid/m,
    )
    expect(stdout).toMatch(/^ {6}-> Correct it; docs\/env\.md lists every key$/m)
    expect(stdout).not.toMatch('secret')
  })

  test('tells of a model that is missing, damaged or not the one expected', async () => {
    const missing = await doctor({ SIDECAR_PORT: '0', ONNX_PATH: '/nowhere/model.onnx' })
    expect(missing.code).toBe(1)
    expect(missing.stdout).toMatch(
      /^FAIL {2}model +\/nowhere\/model\.onnx: no such file, .*\n {6}-> Set ONNX_PATH/m,
    )

    const folder = join(FOLDER, 'damaged')
    mkdirSync(folder)
    copyFileSync(join(SHIPPED_MODEL_FOLDER, 'model.json'), join(folder, 'model.json'))
    writeFileSync(join(folder, 'model_dynamic.onnx'), readFileSync(join(SHIPPED_MODEL_FOLDER, 'model.onnx')))
    const damaged = await resultsOf({ SIDECAR_PORT: '0', ONNX_PATH: join(folder, 'model_dynamic.onnx') })
    expect(damaged.failed).toEqual(['model'])
    expect(damaged.of('model').found).toMatch(/sha256 \w{64}.*, expected \w{64}/)
    expect(damaged.of('model').remedy).toMatch('fetch it again')

    const other = await resultsOf({ SIDECAR_PORT: '0', EXPECTED_SHA256: 'ab'.repeat(32) })
    expect(other.failed).toEqual(['model'])
    expect(other.of('model').remedy).toBe('Install the model that was meant, or correct EXPECTED_SHA256')
  })

  test('tells of a placeholder where a HEF should be, and shows none of it', async () => {
    const path = join(FOLDER, 'placeholder.hef')
    writeFileSync(path, 'token: secret, replace me\n')
    const { of, code } = await resultsOf({ INFER_MODE: 'hailo', HEF_PATH: path, SIDECAR_PORT: '0' })
    expect(code).toBe(1)
    expect(of('model').status).toBe('fail')
    expect(of('model').found).toMatch('a placeholder, 26 bytes of text, expected a compiled HEF')
    expect(of('model').found).not.toMatch('secret')
    expect(of('model').remedy).toMatch('Put the HEF that the Hailo Dataflow Compiler makes in its place')
    expect(of('HEF for the device').status).toBe('skip')
  })

  test('tells of an engine that has the port, and finds no fault in it', async () => {
    const health = { ok: true, config_version: '1', contract: { channels: 9 } }
    const server = createServer((_, response) => response.end(JSON.stringify(health))).listen(0, '127.0.0.1')
    await once(server, 'listening')
    const { port } = server.address() as AddressInfo
    const { failed, of, code } = await resultsOf({ ...STUB, SIDECAR_PORT: String(port) })
    server.close()
    expect(code).toBe(0)
    expect(failed).toEqual([])
    expect(of('port')).toMatchObject({
      status: 'warn',
      found: `127.0.0.1:${port} is taken: a hailo-inference answers there already`,
    })
  })

  test('says so when the packages are not installed', async () => {
    const folder = join(FOLDER, 'bare')
    cpSync('dist/src', join(folder, 'dist/src'), { recursive: true })
    copyFileSync('package.json', join(folder, 'package.json'))
    const { code, stdout } = await doctor({}, [], folder)
    expect(code).toBe(1)
    expect(stdout).toMatch(/^FAIL {2}packages +Cannot find package '\S+'.*\n {6}-> Run `npm ci`$/m)
  })

  test('refuses an option that it does not know, and explains itself', async () => {
    const wrong = await doctor({}, ['--mend'])
    expect(wrong).toMatchObject({ code: 64, stdout: '' })
    expect(wrong.stderr).toMatch("Unknown option '--mend'")
    const help = await doctor({}, ['--help'])
    expect(help).toMatchObject({ code: 0, stderr: '' })
    expect(help.stdout).toMatch('npm run doctor')
  })
})

describe.skipIf(COMPILER === null)('the doctor as a program, with native code', () => {
  const software = {
    INFER_MODE: 'hailo',
    HEF_PATH: join(SHIPPED_MODEL_FOLDER, 'tcn_encoder.soft.hef'),
    HAILORT_LIB: SOFT_LIBRARY,
    SOFTHAILORT_LOCK_DIR: FOLDER,
    SIDECAR_PORT: '0',
  }
  beforeAll(buildNative, 120_000)

  test('finds nothing wrong with the software HailoRT', async () => {
    const { failed, of, code } = await resultsOf({ ...software, FALLBACK: 'onnx' })
    expect(failed).toEqual([])
    expect(code).toBe(0)
    expect(of('HailoRT')).toMatchObject({
      status: 'ok',
      found: expect.stringMatching('the software HailoRT'),
    })
    expect(of('devices')).toMatchObject({ status: 'ok', found: '0000:01:00.0 hailo8, firmware 4.23.0' })
    expect(of('HEF for the device').status).toBe('ok')
    expect(of('fallback model')).toMatchObject({
      status: 'ok',
      found: expect.stringMatching('model_dynamic.onnx'),
    })
    expect(of('driver')).toMatchObject({ status: 'skip', found: 'the software HailoRT has no hardware' })
  })

  test('names the devices when there are none', async () => {
    const { failed, of, code } = await resultsOf({ ...software, SOFTHAILORT_DEVICES: '0' })
    expect(failed).toEqual(['devices'])
    expect(of('devices').found).toBe('HailoRT lists none')
    expect(code).toBe(1)
  })

  test('names what to install when the library is not supported or not there', async () => {
    const newer = await resultsOf({ ...software, SOFTHAILORT_VERSION: '5.2.0' })
    expect(newer.failed).toEqual(['HailoRT'])
    expect(newer.of('HailoRT').found).toMatch('is HailoRT 5.2.0, expected 4.17.1 to 4.23')
    expect(newer.of('HailoRT').remedy).toMatch('Install HailoRT 4.17.1 to 4.23')
    const missing = await resultsOf({ ...software, HAILORT_LIB: '/nowhere/libhailort.so' })
    expect(missing.failed).toContain('HailoRT')
    expect(missing.of('HailoRT').found).toMatch('/nowhere/libhailort.so: cannot open shared object file')
    expect(missing.code).toBe(1)
  })

  test('outlives a library that ends the process, and refuses a HEF that would never come', async () => {
    const source = join(PROJECT_FOLDER, 'native/test/deadly_library.cc')
    const output = join(FOLDER, 'libdeadly.so')
    await build({ output, sources: [source], linkFlags: ['-shared'] })
    const pipe = join(FOLDER, 'pipe.hef')
    await new Promise(resolve => execFile('mkfifo', [pipe], resolve))

    const startedMs = Date.now()
    const { failed, of } = await resultsOf({ ...software, HAILORT_LIB: output, HEF_PATH: pipe })
    expect(Date.now() - startedMs).toBeLessThan(10_000)
    expect(of('HailoRT')).toMatchObject({ status: 'fail', found: 'trying it ended the process with SIGABRT' })
    expect(of('model')).toMatchObject({
      status: 'fail',
      found: expect.stringContaining('a pipe or a device'),
    })
    expect(failed).not.toContain('port')
  })
})

interface Made {
  readonly nodeVersion?: string
  readonly user?: User
  readonly isWritable?: boolean
  readonly node?: { gid: number; mode: number }
  /** On top of those of a Raspberry Pi 5 where all is well; undefined takes one away. */
  readonly files?: Record<string, string | undefined>
  readonly links?: Record<string, string>
  readonly forbidden?: readonly string[]
  readonly probes?: Partial<Record<ProbeName, Answer<unknown>>>
  /** Gets the name of every probe. */
  readonly probed?: string[]
  readonly listen?: string
  readonly body?: string
  /** Gets every URL that is asked. */
  readonly asked?: string[]
}

const PI_FILES: Record<string, string> = {
  [ADDON_PATH]: '',
  '/dev/hailo0': '',
  '/dev/hailort_log': '',
  '/proc/modules': 'nvme 57344 0 - Live 0x0\nhailo_pci 118784 0 - Live 0x0\n',
  '/sys/module/hailo_pci/version': '4.23.0\n',
  '/sys/bus/pci/devices/0000:00:00.0/vendor': '0x14e4\n',
  '/sys/bus/pci/devices/0001:01:00.0/vendor': '0x1e60\n',
  '/sys/class/hailo_chardev/hailo0/board_location': '0001:01:00.0\n',
  '/etc/group': 'root:x:0:\nvideo:x:44:pi\nhailo:x:996:\n',
  '/proc/self/smaps': 'Size:               1024 kB\nKernelPageSize:        4 kB\n',
  '/proc/self/limits': 'Max open files            1048576              1048576              files\n',
  '/proc/self/cgroup': '0::/\n',
  '/proc/meminfo': 'MemTotal:        8388608 kB\nMemFree:         1000 kB\n',
}

const DEVICE: DeviceFacts = {
  id: '0001:01:00.0',
  board: 'Hailo-8',
  product: 'HAILO-8 AI ACC',
  serial: 'HLLWM2A000000001',
  firmware: '4.23.0',
  architecture: 'hailo8',
}
const SOFTWARE_DEVICES = { value: [{ ...DEVICE, id: '0000:01:00.0', product: 'software HailoRT' }] }
const SOFTWARE: Answer<LibraryFacts> = {
  value: {
    isSoftware: true,
    opened: { path: 'native/build/libhailort.so', version: '4.23.0' },
    problem: null,
  },
}

const PI_PROBES: Record<ProbeName, Answer<unknown>> = {
  uWebSockets: { value: { binary: 'uws_linux_arm64_127.node', version: '20.51.0' } },
  onnxruntime: { value: '1.30.0' },
  model: modelWith({}),
  fallback: modelWith({ path: '/models/model.onnx' }),
  addon: { value: ADDON_PATH },
  compiler: { value: 'c++' },
  library: libraryOf('4.23.0'),
  devices: { value: [DEVICE] },
}

function libraryOf(version: string): Answer<LibraryFacts> {
  const opened = { path: `/usr/lib/libhailort.so.${version}`, version }
  return { value: { isSoftware: false, opened, problem: null } }
}

function modelWith(
  changes: Partial<ModelFacts>,
  hef: Partial<NonNullable<ModelFacts['hef']>> = {},
): Answer<ModelFacts> {
  const value: ModelFacts = {
    name: 'tcn',
    version: '1.0.0',
    sha256: '0123456789abcdef'.repeat(4),
    path: '/models/tcn.hef',
    goldenWindows: 64,
    hef: {
      headerVersion: 1,
      architecture: 'hailo8p',
      compilerVersion: '3.29.0',
      software: false,
      ...hef,
    },
    ...changes,
  }
  return { value }
}

/** A Raspberry Pi 5 with a Hailo-8 where all is well, but for what is made different. */
function machine(made: Made = {}): System {
  const files = new Map(
    Object.entries({ ...PI_FILES, ...made.files }).filter(([, text]) => text !== undefined),
  )
  const links = new Map(Object.entries(made.links ?? {}))
  const { isWritable = true, forbidden = [], listen = null } = made
  return {
    nodeVersion: made.nodeVersion ?? '22.12.0',
    platform: 'linux arm64',
    cpus: 4,
    pid: 4242,
    user: made.user ?? { uid: 1000, name: 'pi', groups: [1000, 44] },
    read: path => files.get(path),
    list(folder) {
      if (forbidden.includes(folder)) return 'forbidden'
      const inside = [...files.keys(), ...links.keys()].filter(path => path.startsWith(`${folder}/`))
      return [...new Set(inside.map(path => path.slice(folder.length + 1).split('/')[0]!))]
    },
    stat: path => (files.has(path) ? (made.node ?? { gid: 996, mode: 0o20660 }) : undefined),
    isWritable: path => isWritable && files.has(path),
    linkTarget: path => links.get(path),
    tryToListen: async () => listen,
    get: async url => {
      made.asked?.push(url)
      return made.body
    },
    probe: async name => {
      made.probed?.push(name)
      return (made.probes?.[name] ?? PI_PROBES[name]) as never
    },
  }
}

async function findingOf(name: string, made: Made = {}, env: Env = HAILO): Promise<Finding> {
  const check = CHECKS.find(check => check.name === name)
  if (check === undefined) throw new Error(`there is no check of that name: ${name}`)
  return check.run(new Facts(machine(made), env))
}

/** Runs the compiled doctor in an environment of its own. */
function doctor(
  env: Env,
  args: string[] = [],
  folder = PROJECT_FOLDER,
): Promise<{ code: number; stdout: string; stderr: string }> {
  const program = join(folder, 'dist/src/cli/doctor.js')
  const { PATH = '' } = process.env
  return new Promise(resolve => {
    execFile(process.execPath, [program, ...args], { env: { PATH, ...env } }, (error, stdout, stderr) => {
      resolve({ code: error === null ? 0 : Number(error.code), stdout, stderr })
    })
  })
}

async function resultsOf(env: Env) {
  const { code, stdout } = await doctor(env, ['--json'])
  const results: Result[] = JSON.parse(stdout)
  return {
    code,
    failed: results.filter(({ status }) => status === 'fail').map(({ check }) => check),
    of: (name: string) => results.find(({ check }) => check === name)!,
  }
}
