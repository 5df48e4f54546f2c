import type { HttpRequest, HttpResponse } from 'uWebSockets.js'
import type { Access, Credentials } from './access.ts'
import { type Allowance, type RateLimits, rateLimited } from './rate-limit.ts'
import { type Failure, UNAUTHORIZED } from './reply.ts'
import type { FrontDoorMetrics } from './service.ts'

/** Who sends a request, and whether it may. */
export interface Caller {
  /** Null when there is no limit. */
  readonly allowance: Allowance | null
  /** What the request is refused with, null when it may go on. */
  readonly refusal: Failure | null
}

interface Rules {
  readonly access: Access
  /** Null: every client may send as much as it likes. */
  readonly limits: RateLimits | null
  readonly metrics: FrontDoorMetrics
}

const ANYBODY: Caller = { allowance: null, refusal: null }

/**
 * Judges the key of a request, then takes what the request costs from the rate of who sends it: without a right key one
 * window, wherever it is tried. Call within the handler: the request can be read only there.
 * @param windows what it costs with a right key; 0 is never refused for the rate
 */
export function callerOf(
  request: HttpRequest,
  response: HttpResponse,
  credentials: Credentials,
  windows: number,
  { access, limits, metrics }: Rules,
): Caller {
  if (!access.needsKey && limits === null) return ANYBODY
  const key = access.keyOf(credentials)
  const isAllowed = key !== null || !access.needsKey
  const allowance = limits?.allowanceOf(request, response, key) ?? null
  const cost = isAllowed ? windows : 1
  const waitMs = cost === 0 ? 0 : (allowance?.take(cost) ?? 0)
  if (waitMs > 0) {
    // One, whatever its head tells of: no more has come.
    metrics.refused('rate_limited', 'rate_limited')
    return { allowance, refusal: rateLimited(waitMs) }
  }
  return { allowance, refusal: isAllowed ? null : UNAUTHORIZED }
}

export function credentialsOf(request: HttpRequest): Credentials {
  return { apiKey: request.getHeader('x-api-key'), authorization: request.getHeader('authorization') }
}
