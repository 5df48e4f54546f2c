/** Every way one inference can end. The order is the encoding in a slot: append only. */
export const OUTCOMES = ['ok', 'deadline_exceeded', 'model_unavailable'] as const

export type Outcome = (typeof OUTCOMES)[number]
