export const RELOAD_RESULTS = ['replaced', 'unchanged', 'refused'] as const
/** What made the server look for another model: SIGHUP, a client of `/v2`, a link that leads to another version. */
export const RELOAD_TRIGGERS = ['signal', 'request', 'link'] as const

export type ReloadResult = (typeof RELOAD_RESULTS)[number]
export type ReloadTrigger = (typeof RELOAD_TRIGGERS)[number]

/** What came of a look for another model. */
export interface Reload {
  readonly result: ReloadResult
  /** Why it was refused, in words: the model that serves goes on. Null when it was not. */
  readonly reason: string | null
}

/** What is told of the last look. */
export interface LastReload extends Reload {
  /** ISO 8601. */
  readonly at: string
  /** Of the model that serves since. */
  readonly version: string
}

/** Serves another model when there is one. */
export interface Reloads {
  /** Null before the first. */
  readonly last: LastReload | null
  /** Reads what is there now, or a moment later. Never rejects. */
  reload(trigger: ReloadTrigger): Promise<Reload>
}
