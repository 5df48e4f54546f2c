import { start } from '../../src/start.ts'

// The real server with a worker that fails on order.
await start(process.env, new URL('./worker.js', import.meta.url))
