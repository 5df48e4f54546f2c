/**
 * Opens a device and a stream as a worker would, runs golden windows, and prints what came of it as JSON.
 *
 *   run-windows.js '{"library": …, "hef": …, "deviceId": …, "isVstream": …, "isSingleModel": …, "windows": …}'
 *
 * isNormalised: the HEF is taken to carry the z-score; windows go in z-scored. hold: keeps the device until killed.
 */

import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { HailoError, openDevice } from '../../native/index.ts'
import { SHIPPED_MODEL_FOLDER } from '../../src/project.ts'

const {
  library,
  hef,
  deviceId = null,
  isVstream = false,
  isSingleModel = false,
  windows = 64,
  motifName = null,
  isNormalised = false,
  hold = false,
} = JSON.parse(process.argv[2]!)

const { normalization } = JSON.parse(readFileSync(join(SHIPPED_MODEL_FOLDER, 'model.json'), 'utf8'))
const golden = new Float32Array(
  Uint8Array.from(readFileSync(join(SHIPPED_MODEL_FOLDER, 'golden_windows.f32'))).buffer,
)
if (isNormalised) {
  const { mean, std } = normalization
  golden.forEach((value, index) => {
    golden[index] =
      Math.fround(Math.fround(value) - Math.fround(mean[index % 9])) / Math.fround(std[index % 9])
  })
}
const head = new Float32Array(
  Uint8Array.from(readFileSync(join(SHIPPED_MODEL_FOLDER, 'motif_head.f32'))).buffer,
)
const MOTIFS = 12
const LATENT_DIMS = 64

try {
  const device = await openDevice({ library, deviceId, isSingleModel })
  const stream = await device.openStream({
    hef: readFileSync(hef),
    inputName: 'tcn_encoder/input_layer1',
    latentName: 'tcn_encoder/latent',
    motifName,
    motifHead:
      motifName === null
        ? { weights: head.slice(0, MOTIFS * LATENT_DIMS), bias: head.slice(MOTIFS * LATENT_DIMS) }
        : null,
    motifCount: MOTIFS,
    isSoftmax: true,
    normalisation: isNormalised
      ? null
      : { mean: Float32Array.from(normalization.mean), std: Float32Array.from(normalization.std) },
    isVstream,
    streamCount: 1,
  })
  const outputs: number[][] = []
  let failure = null
  // As many in flight as the stream takes: results must come in the order of their windows.
  for (let submitted = 0; outputs.length < windows && failure === null; ) {
    const output = new Float32Array(LATENT_DIMS + MOTIFS)
    if (submitted < windows && submitted - outputs.length < stream.depth) {
      stream.submit(golden.subarray(submitted * 900, ++submitted * 900))
    } else if (stream.collect(output, 1000)) outputs.push([...output])
    else failure = stream.failure()
  }
  print({
    description: device.description,
    state: device.state(),
    depth: stream.depth,
    outputs,
    failure: failure && { cause: failure.failureCause, message: failure.message },
  })
  if (hold) setInterval(() => {}, 1000)
  else {
    stream.close()
    device.close()
  }
} catch (error) {
  if (!(error instanceof HailoError)) throw error
  print({ failure: { cause: error.failureCause, message: error.message }, outputs: [] })
}

function print(result: object): void {
  process.stdout.write(`${JSON.stringify(result)}\n`)
}
