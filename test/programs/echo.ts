import type { BackendPlan, HailoModel } from '../../src/core/stream-task.ts'
import { CHANNELS, LATENT_DIMS, TIMESTEPS } from '../../src/core/window.ts'
import type { Int8Model } from '../../src/hef/int8-model.ts'
import { softHef } from '../../src/hef/soft-hef.ts'

export const MOTIFS = 12
/** Of the bytes that the device takes and gives. */
export const SCALE = 1 / 16
export const ZERO_POINT = 128

/**
 * A HEF for the software device, and how to run it: latent[i] = mean of channel i mod 9, exactly, and `added`
 * to it, in steps of the device.
 */
export function echoPlan(
  how: Pick<HailoModel, 'library' | 'scheduler' | 'streamCount'>,
  added = 0,
): BackendPlan {
  return {
    kind: 'hailo',
    model: {
      hef: softHef(echo(added), { headerVersion: 1, motifLogits: null }),
      architecture: 'hailo8',
      software: true,
      deviceId: null,
      io: 'async',
      inputName: 'tcn_encoder/input_layer1',
      latentName: 'tcn_encoder/latent',
      motifName: null,
      motifActivation: 'softmax',
      motifHead: { weights: new Float32Array(MOTIFS * LATENT_DIMS), bias: new Float32Array(MOTIFS) },
      normalisation: null,
      ...how,
    },
  }
}

export function schedulerOf(text: string | undefined): HailoModel['scheduler'] {
  return text === 'none' ? 'none' : 'round_robin'
}

function echo(added: number): Int8Model {
  return {
    input: 'input',
    tensors: new Map([
      [
        'input',
        { channels: CHANNELS, length: TIMESTEPS, quantisation: { scale: SCALE, zeroPoint: ZERO_POINT } },
      ],
      ['mean', { channels: CHANNELS, length: 1, quantisation: { scale: SCALE, zeroPoint: ZERO_POINT } }],
      ['latent', { channels: LATENT_DIMS, length: 1, quantisation: { scale: 1, zeroPoint: ZERO_POINT } }],
    ]),
    layers: [
      { op: 'global_avg_pool', inputs: ['input'], output: 'mean', relu: false, multipliers: [1 / TIMESTEPS] },
      {
        op: 'gemm',
        input: 'mean',
        output: 'latent',
        relu: false,
        kernel: 1,
        stride: 1,
        dilation: 1,
        padding: [0, 0],
        weights: Int8Array.from({ length: LATENT_DIMS * CHANNELS }, (_, index) =>
          Math.floor(index / CHANNELS) % CHANNELS === index % CHANNELS ? 1 : 0,
        ),
        weightScales: new Float32Array(LATENT_DIMS).fill(1),
        bias: new Int32Array(LATENT_DIMS).fill(added),
        multipliers: new Float32Array(LATENT_DIMS).fill(1),
      },
    ],
  }
}
