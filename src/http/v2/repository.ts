import type { z } from 'zod'
import { reasonsNotReady } from '../health.ts'
import { type Answer, type Failure, jsonAnswer } from '../reply.ts'
import type { Service } from '../service.ts'
import { emptyAnswer, v2Error } from './reply.ts'
import { faultIn, IndexRequest, LoadRequest } from './schema.ts'

/** `POST /v2/repository/index` @param body may be empty */
export function repositoryIndex(service: Service, body: Uint8Array): Answer {
  const asked = parse(IndexRequest, body)
  if ('code' in asked) return v2Error(asked)
  const reasons = reasonsNotReady(service)
  if (asked.document.ready && reasons.length > 0) return jsonAnswer(200, [])
  const { servedName, version } = service.models.current
  const state = reasons.length === 0 ? 'READY' : 'UNAVAILABLE'
  return jsonAnswer(200, [{ name: servedName, version, state, reason: reasons.join('; ') }])
}

/** `POST /v2/repository/models/M/load`: lets clients in again, and serves what lies there now if that is another model. */
export async function loadModel(
  { engine, log, models, reloads }: Service,
  body: Uint8Array,
): Promise<Answer> {
  const asked = parse(LoadRequest, body)
  if ('code' in asked) return v2Error(asked)
  const names = Object.keys(asked.document.parameters ?? {})
  if (names.some(name => name === 'config' || name.startsWith('file:'))) {
    return v2Error({
      code: 'invalid_request',
      detail:
        'The parameters bring another model or configuration, expected none: this server reads its own again',
    })
  }
  if (engine.unloaded) log.warn({ model: models.current.name }, 'model loaded by a client')
  engine.load()
  const { reason } = await reloads.reload('request')
  if (reason === null) return emptyAnswer()
  const detail = `The model that serves goes on: ${reason}`
  return v2Error({ code: engine.draining ? 'draining' : 'model_refused', detail })
}

/** `POST /v2/repository/models/M/unload` */
export function unloadModel({ engine, log, models, config }: Service, body: Uint8Array): Answer {
  const asked = parse(LoadRequest, body)
  if ('code' in asked) return v2Error(asked)
  if (!config.allowModelUnload) {
    return v2Error({
      code: 'unload_not_allowed',
      detail: 'This server has one model and does not give it up; ALLOW_MODEL_UNLOAD=true would let it',
    })
  }
  if (!engine.unloaded)
    log.warn({ model: models.current.name }, 'model unloaded by a client: nobody is served')
  engine.unload()
  return emptyAnswer()
}

function parse<Schema extends z.ZodType>(
  schema: Schema,
  body: Uint8Array,
): { document: z.infer<Schema> } | Failure {
  const text = Buffer.from(body.buffer, body.byteOffset, body.length).toString().trim()
  let document: unknown
  try {
    document = text === '' ? {} : JSON.parse(text)
  } catch {
    return {
      code: 'invalid_request',
      detail: `The body of ${body.length} bytes is not valid JSON, expected ${schema.description}`,
    }
  }
  const parsed = schema.safeParse(document)
  if (parsed.success) return { document: parsed.data }
  return { code: 'invalid_request', detail: faultIn(schema, parsed.error) }
}
