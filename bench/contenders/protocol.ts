import { argv, pid } from 'node:process'

/**
 * What a server under load and whoever starts it say to each other. It gets its options as JSON in its last argument,
 * prints `{"port": n}` once it is ready, and ends when its standard input does: with its parent, however that dies.
 */
export interface Ready {
  readonly port: number
}

/** The options of this process. */
export function readOptions<Options>(): Options {
  return JSON.parse(argv[2] ?? '{}')
}

/** Ends this process with its parent. Not by exit(), which aborts while another thread is inside ONNX Runtime. */
export function endWithParent(): void {
  process.stdin.on('end', () => process.kill(pid, 'SIGKILL')).resume()
}

/** Tells the parent where this server listens, and ends with it. */
export function announce(port: number): void {
  endWithParent()
  // By exit(), so that what profiles this process can write what it has.
  process.once('SIGTERM', () => process.exit())
  process.stdout.write(`${JSON.stringify({ port } satisfies Ready)}\n`)
}
