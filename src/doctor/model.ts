import { requireArchitecture } from '../hef/architecture.ts'
import { HefError } from '../hef/error.ts'
import { type Check, type Finding, fail, failInWords, ofConfig, ofHailo, ok, skip, warn } from './check.ts'
import type { Answer, DeviceFacts, ModelFacts } from './probes.ts'

/** What the engine is told to serve. */
export const MODEL_CHECKS: readonly Check[] = [
  {
    name: 'configuration',
    run({ config, configProblems }) {
      if (config === null) return fail(configProblems.join('\n'), 'Correct it; docs/env.md lists every key')
      const { mode, fallback, unused } = config
      const found = `mode ${mode}${fallback === null ? '' : `, else ${fallback}`}`
      if (unused.length === 0) return ok(found)
      return warn(`${found}; without effect: ${unused.join(', ')}`, `Unset ${unused.join(', ')}`)
    },
  },
  ofConfig('model', async (facts, { mode, motifCount }) => {
    if (mode === 'stub') return skip('stub mode has none: answers are made up from the bytes of each window')
    const answer = await facts.model()
    if (answer.value === undefined || motifCount === EDGE_INFER_MOTIFS) return found(answer)
    return warn(
      `${inWords(answer.value)}, with ${motifCount} motifs`,
      `EdgeInfer takes ${EDGE_INFER_MOTIFS} motif scores and no other number: use such a model for it`,
    )
  }),
  ofConfig('fallback model', async (facts, config) => {
    if (config.fallback !== 'onnx') return skip(`FALLBACK is ${config.fallback ?? 'none'}`)
    const { error } = await facts.model()
    if (error !== undefined) return skip('the model that it would stand in for cannot be used')
    return found(await facts.system.probe('fallback', config))
  }),
  ofHailo('HEF for the device', async (facts, { deviceId }) => {
    const { value: model } = await facts.model()
    const { value: devices } = await facts.devices()
    const { value: library } = await facts.library()
    if (!model?.hef) return skip('the model cannot be used')
    const device = devices?.find(({ id }) => deviceId === null || id === deviceId)
    if (device === undefined) return skip('no device to compare it with')
    const kind = kindOf(device)
    if (kind === null) {
      return fail(
        `device ${device.id} is a ${device.architecture}`,
        'Use a Hailo-8 or a Hailo-8L; this engine runs no other',
      )
    }
    try {
      requireArchitecture(model.hef, kind)
    } catch (error) {
      if (!(error instanceof HefError)) throw error
      return failInWords(error.message, 'Set HEF_PATH to a HEF for this device')
    }
    const release = library?.opened?.version ?? ''
    const oldest = OLDEST_READER[model.hef.headerVersion]
    if (Number(release.split('.')[1]) < oldest) {
      return fail(
        `its header version ${model.hef.headerVersion} is newer than HailoRT ${release}`,
        `Install HailoRT 4.${oldest} or newer, or recompile the model with an older Hailo Dataflow Compiler`,
      )
    }
    return ok(
      `${model.hef.software ? 'a soft HEF' : model.hef.architecture}, the device is ${device.product || kind}`,
    )
  }),
]

const EDGE_INFER_MOTIFS = 12
/** The first HailoRT 4.x that reads a header version. */
const OLDEST_READER = { 0: 17, 1: 17, 2: 20, 3: 21 } as const
const CORRECT = 'Set HEF_PATH or ONNX_PATH, and MODEL_MANIFEST, to a model that can be read'

function found({ value, error }: Answer<ModelFacts>): Finding {
  if (error !== undefined) return failInWords(error, CORRECT)
  if (value.goldenWindows > 0) return ok(`${inWords(value)}, ${value.goldenWindows} golden windows`)
  return warn(
    `${inWords(value)}, no golden vectors: its answers are not checked at the start`,
    'List golden.json and its files in the manifest',
  )
}

function inWords({ name, version, sha256, path, hef }: ModelFacts): string {
  const facts = [`${name} ${version}`, `sha256 ${sha256.slice(0, 12)}`]
  if (hef !== null) {
    const { headerVersion, architecture, compilerVersion, software } = hef
    const compiler = compilerVersion === '' ? '' : `, compiler ${compilerVersion}`
    facts.push(
      `${software ? 'soft HEF' : `HEF for ${architecture}`}, header version ${headerVersion}${compiler}`,
    )
  }
  return [...facts, path].filter(fact => fact !== null).join(', ')
}

/** As requireArchitecture() names it. Null for a device that the engine does not run on. */
function kindOf({ architecture, product }: DeviceFacts): string | null {
  if (product.startsWith('software')) return 'software'
  return ['hailo8', 'hailo8l'].includes(architecture) ? architecture : null
}
