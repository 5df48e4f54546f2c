import { start } from '../../src/start.ts'

// The real server with a worker that keeps LEAK_BYTES of memory for each window.
await start(process.env, new URL('./leaking-worker.js', import.meta.url))
