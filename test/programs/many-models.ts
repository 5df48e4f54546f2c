/**
 * Opens a stream for one model after the other on the same vdevice until it can hold no further one,
 * then opens the device anew, and prints as JSON what came of it.
 *
 *   many-models.js LIBRARY HEF
 */
import { readFileSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import { HailoError, openDevice } from '../../native/index.ts'
import { openContainer, sealContainer } from '../../src/hef/container.ts'
import { decodeHef, encodeHef } from '../../src/hef/schema.ts'

const [library, hefPath] = process.argv.slice(2) as [string, string]
const { proto } = openContainer(readFileSync(hefPath))
const { header, ...rest } = decodeHef(proto)

/** The same network with another date: another model to HailoRT. */
function model(number: number): Uint8Array {
  return sealContainer(
    encodeHef({ ...rest, header: { ...header!, timestampMs: 1_760_000_000_000 + number } }),
    1,
  )
}

const open = () => openDevice({ library, deviceId: null, isSingleModel: false })
const openStream = (device: Awaited<ReturnType<typeof open>>, number: number) =>
  device.openStream({
    hef: model(number),
    inputName: 'tcn_encoder/input_layer1',
    latentName: 'tcn_encoder/latent',
    motifName: null,
    motifHead: { weights: new Float32Array(12 * 64), bias: new Float32Array(12) },
    motifCount: 12,
    isSoftmax: true,
    normalisation: null,
    isVstream: false,
    streamCount: 1,
  })

const device = await open()
let opened = 0
let refused = 0
let failure: HailoError | null = null
while (failure === null && opened < 100) {
  try {
    const stream = await openStream(device, opened)
    stream.close()
    opened++
  } catch (error) {
    if (!(error instanceof HailoError)) throw error
    failure = error
    // While the last stream is being given back, the device is kept for it.
    if (!device.isLost() && opened + ++refused < 100) {
      failure = null
      await sleep(50)
    }
  }
}
const isLost = device.isLost()
device.close()
const next = await open()
const stream = await openStream(next, opened)
process.stdout.write(
  `${JSON.stringify({
    opened,
    failure: { cause: failure?.failureCause, message: failure?.message },
    isLost,
    generation: next.state().generation,
  })}\n`,
)
stream.close()
next.close()
