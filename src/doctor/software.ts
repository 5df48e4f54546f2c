import { type Check, fail, failInWords, ofConfig, ofHailo, ok, skip, warn } from './check.ts'
import { ADDON_PATH } from './probes.ts'

/** What the engine is made of, and whether it runs on this machine. */
export const SOFTWARE_CHECKS: readonly Check[] = [
  {
    name: 'Node.js',
    run({ system: { nodeVersion, platform } }) {
      const [major = 0, minor = 0] = nodeVersion.split('.').map(Number)
      const found = `${nodeVersion} on ${platform}`
      const remedy = 'Install Node.js 20.19 or newer, 22 or 24, and run `npm ci` with it'
      if (major < 20 || (major === 20 && minor < 19)) return fail(`${found} is too old`, remedy)
      if (![20, 22, 24].includes(major))
        return warn(`${found} is not one that the engine is tested with`, remedy)
      return ok(found)
    },
  },
  {
    name: 'uWebSockets.js',
    async run({ system }) {
      const { value, error } = await system.probe('uWebSockets', null)
      if (value !== undefined) return ok(`${value.version}, ${value.binary}`)
      const [, found, remedy] = /^(No uWebSockets\.js binary fits [^:]+): (.+)\.$/.exec(error) ?? []
      if (found === undefined) return fail(error, 'Run `npm ci` with this Node.js')
      return fail(found, remedy![0]!.toUpperCase() + remedy!.slice(1))
    },
  },
  ofConfig('ONNX Runtime', async ({ system }, { mode, fallback }) => {
    if (mode !== 'onnx' && fallback !== 'onnx') return skip(`not needed in ${mode} mode`)
    const { value, error } = await system.probe('onnxruntime', null)
    if (value !== undefined) return ok(value)
    return fail(
      error,
      'Run `npm ci` on this machine; onnxruntime-node needs Linux with glibc on x64 or arm64',
    )
  }),
  ofConfig('native addon', async (facts, { hailo, mode }) => {
    const { system } = facts
    const isNeeded = hailo !== null
    const aside = isNeeded ? '' : `, not needed in ${mode} mode`
    const isCompiled = system.stat(ADDON_PATH) !== undefined
    if (!isCompiled && !isNeeded) return skip(`not compiled${aside}`)
    if (!isCompiled) {
      const { value: compiler } = await system.probe('compiler', null)
      const compile = 'Run `npm run native`'
      return compiler
        ? fail(`not compiled; the compiler for it is there (${compiler})`, compile)
        : fail(
            'not compiled, and there is no C++ compiler',
            `Install one (on Debian, Ubuntu and Raspberry Pi OS: sudo apt install g++). ${compile}`,
          )
    }
    const { error } = await facts.addon()
    if (error === undefined) return isNeeded ? ok(ADDON_PATH) : skip(`compiled and loads${aside}`)
    const found = `${ADDON_PATH} does not load: ${error}`
    return isNeeded ? fail(found, 'Run `npm run native` on this machine') : skip(found + aside)
  }),
  ofHailo('HailoRT', async facts => {
    const { error: addonError } = await facts.addon()
    if (addonError !== undefined) return skip('the native addon does not load')
    const { value, error } = await facts.library()
    if (error !== undefined) return fail(error, INSTALL)
    const { opened, problem, isSoftware } = value
    if (opened === null) return failInWords(problem!, INSTALL)
    return ok(`${opened.version}${isSoftware ? ', the software HailoRT' : ''}, ${opened.path}`)
  }),
]

const INSTALL =
  'Install HailoRT 4.17.1 to 4.23 for Hailo-8 (on Raspberry Pi OS: sudo apt install hailo-all), or set HAILORT_LIB to its libhailort.so'
