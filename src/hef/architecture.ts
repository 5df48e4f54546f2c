import { HefError } from './error.ts'

/**
 * Checks that a device runs the HEF, before HailoRT answers in numbers.
 * @param hef what readHef() says of it
 * @param device 'hailo8', 'hailo8l' or whatever else HailoRT calls it, 'software' for the software HailoRT
 * @throws HefError 'wrong_architecture'
 */
export function requireArchitecture(
  { architecture, software }: { architecture: string; software: boolean },
  device: string,
): void {
  const runs = device === 'software' ? software : !software && (RUNS[device] ?? []).includes(architecture)
  if (runs) return
  const recompile = `Recompile the model with hw_arch=${device === 'hailo8l' ? 'hailo8l' : 'hailo8'}`
  const expected = EXPECTED[device] ?? `a Hailo-8 or a Hailo-8L, not this ${device}`
  const refuse = (found: string, remedy: string) =>
    new HefError('wrong_architecture', { found, expected, remedy })

  if (software) {
    const remedy = 'Set HEF_PATH to a HEF that the Hailo Dataflow Compiler made'
    throw refuse('it is a soft HEF, which only the software HailoRT runs', remedy)
  }
  if (device === 'software') {
    throw refuse(
      `it is compiled for ${architecture}`,
      'Make one with `npm run hef:soft`, or run it on a device',
    )
  }
  if (RUNS[device] === undefined) {
    throw refuse(`it is to run on a ${device}`, 'This engine drives no other device')
  }
  switch (architecture) {
    case 'hailo8':
      throw refuse('it is compiled for the first silicon (hailo8), which no device on sale runs', recompile)
    case 'hailo8p':
    case 'hailo8r':
      throw refuse(
        `it is compiled for the Hailo-8 (${architecture}), which has more clusters than this Hailo-8L`,
        recompile,
      )
    case 'hailo8l':
      throw refuse(
        'it is compiled for the Hailo-8L (hailo8l), which leaves part of this Hailo-8 idle',
        recompile,
      )
    case 'hailo10h':
    case 'hailo15h':
    case 'hailo15l':
    case 'hailo15m':
      throw refuse(
        `it is compiled for ${architecture}, and this engine runs only Hailo-8 and Hailo-8L`,
        recompile,
      )
    default:
      throw refuse(`its architecture is ${architecture}`, recompile)
  }
}

/** HailoRT would run hailo8l on a Hailo-8 too, with a warning: slower than need be, so a mistake. */
const RUNS: Record<string, readonly string[] | undefined> = {
  hailo8: ['hailo8p', 'hailo8r'],
  hailo8l: ['hailo8l'],
}
const EXPECTED: Record<string, string | undefined> = {
  hailo8: 'hailo8p or hailo8r for a Hailo-8',
  hailo8l: 'hailo8l for a Hailo-8L',
  software: 'a soft HEF for the software HailoRT',
}
