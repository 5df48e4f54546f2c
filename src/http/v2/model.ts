import type { BackendKind } from '../../core/backend.ts'
import { CHANNELS, LATENT_DIMS, TIMESTEPS } from '../../core/window.ts'
import { reasonsNotReady } from '../health.ts'
import { type Answer, jsonAnswer } from '../reply.ts'
import type { Service } from '../service.ts'
import { emptyAnswer, v2Error } from './reply.ts'
import { INPUT_NAME } from './schema.ts'

/** What the protocol tells of this server and its one model. */

const EXTENSIONS = [
  'binary_tensor_data',
  'model_repository',
  'statistics',
  'model_configuration',
  'parameters',
]
/** As Triton names what runs a model, where it has a name for it. */
const PLATFORMS: Record<BackendKind, { platform: string; backend: string }> = {
  hailo: { platform: 'hailort_hef', backend: 'hailort' },
  onnx: { platform: 'onnxruntime_onnx', backend: 'onnxruntime' },
  stub: { platform: 'stub', backend: 'stub' },
}

/** `GET /v2` */
export function serverMetadata({ version }: Service): Answer {
  return jsonAnswer(200, { name: 'hailo-inference', version, extensions: EXTENSIONS })
}

/** `GET /v2/models/M` */
export function modelMetadata({ models, config }: Service): Answer {
  const { servedName, version } = models.current
  const tensor = (name: string, ...shape: number[]) => ({ name, datatype: 'FP32', shape: [-1, ...shape] })
  return jsonAnswer(200, {
    name: servedName,
    versions: [version],
    platform: PLATFORMS[config.mode].platform,
    inputs: [tensor(INPUT_NAME, TIMESTEPS, CHANNELS)],
    outputs: [tensor('latent', LATENT_DIMS), tensor('motif_scores', config.motifCount)],
  })
}

/** `GET /v2/models/M/config` */
export function modelConfig({ config, models }: Service, maxBatch: number): Answer {
  const tensor = (name: string, ...dims: number[]) => ({ name, data_type: 'TYPE_FP32', dims })
  return jsonAnswer(200, {
    name: models.current.servedName,
    ...PLATFORMS[config.mode],
    max_batch_size: maxBatch,
    input: [tensor(INPUT_NAME, TIMESTEPS, CHANNELS)],
    output: [tensor('latent', LATENT_DIMS), tensor('motif_scores', config.motifCount)],
    dynamic_batching: {},
    version_policy: { latest: { num_versions: 1 } },
  })
}

/** `GET /v2/health/ready` and `GET /v2/models/M/ready`: the server is ready when its one model is. */
export function ready(service: Service): Answer {
  const reasons = reasonsNotReady(service)
  if (reasons.length === 0) return emptyAnswer()
  const code = service.engine.draining ? 'draining' : 'model_unavailable'
  return v2Error({ code, detail: `The model is not ready: ${reasons.join('; ')}` })
}
