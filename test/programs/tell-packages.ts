import { createRequire } from 'node:module'
import { isMainThread } from 'node:worker_threads'

// Loaded before a server, with `node --import`: tells at its end whether it came to load OpenTelemetry's SDK. Of its
// packages the one of interfaces comes with prom-client.
const { cache } = createRequire(import.meta.url)
process.on('exit', () => {
  const files = Object.keys(cache).filter(file => file.includes('/@opentelemetry/sdk-trace'))
  if (isMainThread) process.stderr.write(`OpenTelemetry: ${files.length === 0 ? 'not loaded' : 'loaded'}\n`)
})
