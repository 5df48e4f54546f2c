/**
 * Takes the picture of the README: the live page in the dark, with three clients and a replay from the page itself.
 *
 *   npm run screenshot [file]
 */
import { spawn } from 'node:child_process'
import { on } from 'node:events'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { PROJECT_FOLDER } from '../src/project.ts'
import { HAS_CHROMIUM, launchChromium } from './chromium.ts'

const SIZE = { width: 1120, height: 1186 }
/** So long the clients play before the picture is taken. */
const PLAY_MS = 28_000
const STAGGER_MS = 3000
const READY_MS = 20_000

const file = process.argv[2] ?? join(PROJECT_FOLDER, 'docs/live-page.png')
if (!HAS_CHROMIUM) throw new Error('Cannot take a picture without Chromium: apt-get install chromium')

const server = run('src/main.js', [])
const children = [server]
try {
  const url = await urlOf(server)
  const browser = await launchChromium()
  try {
    const page = await browser.newPage({ viewport: SIZE, colorScheme: 'dark', reducedMotion: 'reduce' })
    await page.goto(url)
    const replay = (...options: string[]) =>
      run('bench/replay.js', ['--url', url, '--speed', '1', ...options])
    // One after the other: they all play the same recording.
    for (const options of [['--stream'], ['--stream', '--hop', '25'], ['--binary']]) {
      children.push(replay(...options))
      await sleep(STAGGER_MS)
    }
    await sleep(PLAY_MS)
    await page.selectOption('#try-speed', '2')
    await page.click('#try-button')
    await sleep(PLAY_MS / 3)
    await page.screenshot({ path: file })
  } finally {
    await browser.close()
  }
} finally {
  for (const child of children) child.kill()
}

function run(program: string, options: readonly string[]) {
  const main = join(PROJECT_FOLDER, 'dist', program)
  // Nothing of whoever calls: the picture shall be the same everywhere. Port 0: one that is free.
  const env = { SIDECAR_PORT: '0' }
  const child = spawn(process.execPath, ['--experimental-websocket', main, ...options], {
    env,
    stdio: ['ignore', 'pipe', 'ignore'],
  })
  child.stdout.setEncoding('utf8').resume() // unread, a full pipe would hold it up
  return child
}

/** What the server prints when it is ready. */
async function urlOf({ stdout }: typeof server): Promise<string> {
  const signal = AbortSignal.timeout(READY_MS)
  let printed = ''
  for await (const [text] of on(stdout, 'data', { signal, close: ['end'] })) {
    printed += text
    const url = /^ {2}url +(\S+)$/m.exec(printed)?.[1]
    if (url !== undefined) return url
  }
  throw new Error('Cannot start a server for the picture')
}
