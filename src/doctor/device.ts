import { type Check, type Finding, fail, failInWords, ofHailo, ok, skip, warn } from './check.ts'
import type { Facts } from './facts.ts'
import type { System } from './system.ts'

/** The device, from the slot to who holds it. */
export const DEVICE_CHECKS: readonly Check[] = [
  ofHardware('PCI device', ({ system }) => {
    const found = pciDevices(system)
    if (found.length > 0) return ok(found.join(', '))
    if (nodesOf(system).length > 0) return ok('not shown here, but its device node is')
    return fail(
      'no Hailo on the PCI bus',
      'Power off and seat the module; on a Raspberry Pi 5 add dtparam=pciex1 to /boot/firmware/config.txt and reboot. To try the engine without a device: npm run start:softhailo',
    )
  }),
  ofHardware('driver', async facts => {
    const { system } = facts
    const { isLoaded, version } = driverOf(system)
    if (!isLoaded) {
      if (pciDevices(system).length === 0) return skip('no device that needs it')
      return fail(
        'hailo_pci is not loaded',
        'Run `sudo modprobe hailo_pci`. If there is no such module, install it (on Raspberry Pi OS: sudo apt install hailo-all) and reboot',
      )
    }
    if (version === undefined) return ok('hailo_pci, which does not tell its version')
    const library = (await facts.library()).value?.opened?.version
    if (library === undefined) return ok(`hailo_pci ${version}`)
    if (version === library) return ok(`hailo_pci ${version}, the version of the library`)
    return fail(
      `hailo_pci ${version}, but the library is ${library}`,
      isContainer(system)
        ? `Take an image with HailoRT ${version}, or install driver ${library} on the host and reboot`
        : 'Install driver and library of one version (on Raspberry Pi OS: sudo apt full-upgrade) and reboot',
    )
  }),
  ofHardware('device node', ({ system }, deviceId) => {
    const nodes = nodesOf(system, deviceId)
    if (nodes.length === 0) {
      if (pciDevices(system).length === 0) return skip('no device on the PCI bus')
      if (!driverOf(system).isLoaded) return skip('the driver, which makes it, is not loaded')
      return fail(
        'no /dev/hailo*',
        isContainer(system)
          ? 'Pass it to the container: devices: ["/dev/hailo0:/dev/hailo0"]'
          : 'Reboot; if it stays away, `sudo dmesg | grep hailo` tells why the driver did not make it',
      )
    }
    const closed = nodes.find(node => !system.isWritable(node))
    if (closed === undefined) return ok(`${nodes.join(', ')}, readable and writable`)
    return notWritable(closed, system)
  }),
  ofHardware('page size', ({ system }) => {
    const pageKiB = Number(/^KernelPageSize:\s*(\d+) kB$/m.exec(system.read('/proc/self/smaps') ?? '')?.[1])
    if (!(pageKiB > 4)) return ok(pageKiB > 0 ? `${pageKiB} KiB` : 'not told')
    const forced = Number(system.read('/sys/module/hailo_pci/parameters/force_desc_page_size') ?? 0)
    if (forced > 0 && forced <= 4096) return ok(`${pageKiB} KiB, with force_desc_page_size=${forced}`)
    return warn(
      `${pageKiB} KiB: the driver may fail with "max_desc_page_size given ${pageKiB * 1024} is bigger than hw max desc page size 4096"`,
      "Run `echo 'options hailo_pci force_desc_page_size=4096' | sudo tee /etc/modprobe.d/hailo_pci.conf` and reboot",
    )
  }),
  ofHailo('devices', async (facts, { deviceId }) => {
    const { value: library } = await facts.library()
    if (!library?.opened) return skip('HailoRT cannot be opened')
    const { value: devices, error } = await facts.devices()
    if (error !== undefined) {
      return failInWords(
        error,
        '`sudo dmesg | grep hailo` may tell more; a device that hangs comes back with a power cycle',
      )
    }
    if (devices.length === 0) {
      return fail(
        'HailoRT lists none',
        library.isSoftware
          ? 'Set SOFTHAILORT_DEVICES to 1 or more'
          : 'Mend what fails above this line, then reboot',
      )
    }
    const ids = devices.map(({ id }) => id).join(', ')
    const device = devices.find(({ id }) => deviceId === null || id === deviceId)
    if (device === undefined) {
      return fail(
        `HAILO_DEVICE_ID is ${deviceId}, and HailoRT lists ${ids}`,
        `Set HAILO_DEVICE_ID to ${devices.length === 1 ? ids : 'one of them'}, or unset it for any`,
      )
    }
    const { version } = library.opened
    const found = devices.map(each => `${each.id} ${each.architecture}, firmware ${each.firmware}`).join('; ')
    if (device.firmware === version) return ok(found)
    return fail(
      `${device.id} has firmware ${device.firmware}, but the library is ${version}`,
      `Install driver, firmware and library of one version and reboot: the driver loads the firmware at boot`,
    )
  }),
  ofHardware('free device', async (facts, deviceId) => {
    await facts.devices() // whose process has the device open for a moment
    const { system } = facts
    const nodes = nodesOf(system, deviceId)
    if (nodes.length === 0) return skip('no device node')
    const { holders, hidden } = holdersOf(nodes, system)
    const limits = [
      ...(hidden > 0 ? [`cannot see the files of ${hidden} processes of other users`] : []),
      ...(isContainer(system) ? ['cannot see processes outside this container'] : []),
    ]
    const aside = limits.map(limit => `; ${limit}`).join('')
    const held = holders.map(({ node, name, pid }) => `${node} is open in ${name} (pid ${pid})`).join(', ')
    if (holders.length === 0) return ok(`no process has ${nodes.join(', ')} open${aside}`)
    // Without an id HailoRT passes over those that are held.
    if (!nodes.every(node => holders.some(holder => holder.node === node))) return ok(held + aside)
    const service = holders.find(({ name }) => name.startsWith('hailort_service'))
    return fail(
      held + aside,
      service
        ? 'Run `sudo systemctl disable --now hailort`: only one process can have the device'
        : 'Stop it: only one process can have the device, and others can ask this engine',
    )
  }),
]

const HAILO_VENDOR = '0x1e60'
const READ_WRITE = 0o6

/** A check of the hardware or its driver, neither of which the software HailoRT has. */
function ofHardware(
  name: string,
  run: (facts: Facts, deviceId: string | null) => Finding | Promise<Finding>,
): Check {
  return ofHailo(name, async (facts, { deviceId }) =>
    (await facts.isSoftware()) ? skip('the software HailoRT has no hardware') : run(facts, deviceId),
  )
}

function pciDevices(system: System): string[] {
  const folder = '/sys/bus/pci/devices'
  return entriesOf(system, folder).filter(
    id => system.read(`${folder}/${id}/vendor`)?.trim() === HAILO_VENDOR,
  )
}

function driverOf(system: System): { isLoaded: boolean; version: string | undefined } {
  const version = system.read('/sys/module/hailo_pci/version')?.trim()
  const isLoaded = version !== undefined || /^hailo_pci /m.test(system.read('/proc/modules') ?? '')
  return { isLoaded, version }
}

/** @param deviceId as HailoRT names it; null for every device's node */
function nodesOf(system: System, deviceId: string | null = null): string[] {
  const names = entriesOf(system, '/dev').filter(name => /^hailo\d+$/.test(name))
  const places = new Map(
    names.map(name => [name, system.read(`/sys/class/hailo_chardev/${name}/board_location`)?.trim()]),
  )
  return names
    .filter(name => deviceId === null || (places.get(name) ?? deviceId) === deviceId)
    .map(name => `/dev/${name}`)
}

function notWritable(node: string, system: System): Finding {
  const { user } = system
  const { gid, mode } = system.stat(node) ?? { gid: 0, mode: 0 }
  const group = groupOf(gid, system)
  const found = `${node} belongs to group ${group.name}, and ${user.name} may not read and write it`
  const isForGroup = ((mode >> 3) & READ_WRITE) === READ_WRITE && gid !== 0
  if (!isForGroup) {
    return fail(
      found,
      `Put SUBSYSTEM=="hailo_chardev", MODE="0666" into /etc/udev/rules.d/51-hailo-udev.rules and run \`sudo udevadm trigger\``,
    )
  }
  if (user.groups.includes(gid)) {
    return fail(
      `${found}, though in it`,
      `Pass it to the container with its rights: devices: ["${node}:${node}:rw"]`,
    )
  }
  if (isContainer(system)) {
    return fail(`${found}, not being in it`, `Add the group to the container: group_add: ["${gid}"]`)
  }
  if (group.members.includes(user.name)) {
    return fail(`${found}, having been added to it since the last login`, 'Log out and in again')
  }
  return fail(
    `${found}, not being in it`,
    `Run \`sudo usermod -aG ${group.name} ${user.name}\` and log in again; in compose: group_add: ["${gid}"]`,
  )
}

function groupOf(gid: number, system: System): { name: string; members: readonly string[] } {
  const rows = (system.read('/etc/group') ?? '').split('\n').map(row => row.split(':'))
  const [name = String(gid), , , members = ''] = rows.find(([, , id]) => id === String(gid)) ?? []
  return { name, members: members.split(',') }
}

interface Holder {
  readonly node: string
  readonly pid: number
  readonly name: string
}

/** Who has a node open, and how many processes could not be looked into. */
function holdersOf(nodes: readonly string[], system: System): { holders: Holder[]; hidden: number } {
  const holders: Holder[] = []
  let hidden = 0
  for (const pid of entriesOf(system, '/proc')
    .filter(name => /^\d+$/.test(name))
    .map(Number)) {
    if (pid === system.pid) continue
    const files = system.list(`/proc/${pid}/fd`)
    if (files === 'forbidden') {
      hidden++
      continue
    }
    const targets = new Set(files.map(file => system.linkTarget(`/proc/${pid}/fd/${file}`)))
    for (const node of nodes.filter(node => targets.has(node))) {
      holders.push({ node, pid, name: nameOf(pid, system) })
    }
  }
  return { holders, hidden }
}

function nameOf(pid: number, system: System): string {
  const isEngine = /dist\/src\/main\.js(\0|$)/.test(system.read(`/proc/${pid}/cmdline`) ?? '')
  return isEngine ? 'another hailo-inference' : system.read(`/proc/${pid}/comm`)?.trim() || 'a process'
}

function isContainer(system: System): boolean {
  return ['/.dockerenv', '/run/.containerenv'].some(path => system.stat(path) !== undefined)
}

function entriesOf(system: System, folder: string): readonly string[] {
  const entries = system.list(folder)
  return entries === 'forbidden' ? [] : entries
}
