import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { env } from 'node:process'
import { LATENT_DIMS } from '../../src/core/window.ts'
import { PROJECT_FOLDER, SHIPPED_MODEL_FOLDER } from '../../src/project.ts'
import type { Contender } from '../contenders/contender.ts'
import { launch } from '../contenders/launch.ts'
import { NOOP_RESULT } from '../contenders/noop.ts'
import type { Ready } from '../contenders/protocol.ts'

/** Debian's own, which has Debian's packages. */
const { PEER_PYTHON = '/usr/bin/python3' } = env
const SIDECAR = join(PROJECT_FOLDER, 'bench', 'peers', 'sidecar.py')
const MODEL = join(SHIPPED_MODEL_FOLDER, 'model_dynamic.onnx')

export interface PeerOptions {
  /** `auto`: the model if Python has onnxruntime, else `stub`. `noop` answers with noopResult(). */
  readonly backend?: 'auto' | 'onnx' | 'stub' | 'noop'
  /** What runs Python, for example `chroot /srv/trixie python3`. Default: PEER_PYTHON, else Debian's. */
  readonly python?: string
}

export interface Peer extends Contender {
  readonly backend: 'onnx' | 'stub' | 'noop'
  readonly versions: Readonly<
    Record<'python' | 'fastapi' | 'pydantic' | 'uvicorn', string> &
      Partial<Record<'uvloop' | 'httptools', string>>
  >
}

/** Python or its packages are not there. The message says what to do. */
export class PeerMissing extends Error {}

interface SidecarReady extends Ready {
  readonly backend: Peer['backend']
  readonly versions: Peer['versions']
  /** A module that it cannot import; then it has ended. */
  readonly missing?: string
}

/** Starts the FastAPI sidecar. @throws PeerMissing */
export async function startPeer({ backend = 'auto', python = PEER_PYTHON }: PeerOptions = {}): Promise<Peer> {
  const [command = '', ...args] = python.split(' ')
  const options = { backend, model: MODEL, result: [noop(0, LATENT_DIMS), noop(LATENT_DIMS)] }
  // As text, so that it needs no file where Python runs: that may be another root.
  const program = ['-c', readFileSync(SIDECAR, 'utf8'), JSON.stringify(options)]
  const { pid, port, said, stop } = await launch<SidecarReady>([command, ...args, ...program]).catch(
    (error: NodeJS.ErrnoException) => {
      if (error.code === 'ENOENT') throw new PeerMissing(`Cannot start a peer: there is no ${command}`)
      throw error
    },
  )
  if (said.missing !== undefined) {
    throw new PeerMissing(
      `Cannot start a peer: ${python} has no module ${said.missing}. bench/peers/install.sh installs Debian's packages`,
    )
  }
  const { backend: answering, versions } = said
  return {
    name: `fastapi pydantic ${versions.pydantic} ${answering}`,
    pid,
    port,
    stop,
    backend: answering,
    versions,
  }
}

function noop(from: number, to?: number): number[] {
  return [...NOOP_RESULT.subarray(from, to)]
}
