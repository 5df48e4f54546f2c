import { Agent, request } from 'node:http'
import { buffer } from 'node:stream/consumers'
import { GOLDEN } from '../windows.ts'

/** Uploads windows to the port that it is told, over two connections, until it is killed. Prints a line for each upload. */
const WINDOWS = 1984 // 31 times all there are
const UPLOADS_AT_ONCE = 2

const [port] = process.argv.slice(2)
const windows = Buffer.from(GOLDEN.windows.buffer, GOLDEN.windows.byteOffset, GOLDEN.windows.byteLength)
const body = Buffer.concat(Array.from({ length: WINDOWS / GOLDEN.count }, () => windows))
const agent = new Agent({ keepAlive: true })

async function upload(): Promise<void> {
  while (true) {
    const failed = await new Promise<string>((resolve, reject) => {
      const headers = {
        'Content-Type': 'application/octet-stream',
        Accept: 'application/octet-stream',
        'Content-Length': body.length,
      }
      const options = { host: '127.0.0.1', port, method: 'POST', path: '/infer', headers, agent }
      const outgoing = request(options, incoming => {
        const failed = String(incoming.headers['x-windows-failed'] ?? incoming.statusCode)
        buffer(incoming).then(() => resolve(failed), reject)
      })
      outgoing.on('error', reject).end(body)
    })
    console.log(`failed ${failed}`)
  }
}

await Promise.all(Array.from({ length: UPLOADS_AT_ONCE }, upload))
