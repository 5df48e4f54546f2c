import { once } from 'node:events'
import { mkdirSync } from 'node:fs'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Browser, BrowserContext, Page } from 'playwright-core'
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from 'vitest'
import { HAS_CHROMIUM, launchChromium } from '../page/chromium.ts'
import { LATENT_DIMS } from '../src/core/window.ts'
import type { Engine } from '../src/engine/engine.ts'
import type { Live } from '../src/live/answer.ts'
import { HISTORY_TICKS, LiveFeed } from '../src/live/feed.ts'
import { MAX_LANES } from '../src/live/lanes.ts'
import { PROJECT_FOLDER } from '../src/project.ts'
import { CONTRASTS, FOCUSED, isDrawn, LOOK_AWAY, LOOKS_AS_DRAWN_ANEW, NAMELESS } from './chromium.ts'
import { ask, JSON_TYPE, postWindow } from './http-client.ts'
import { startFaultyServer, startServerForTest, until } from './load.ts'
import { ORIGIN } from './origin.ts'
import { freePort, startServer, type TestServer } from './server.ts'
import { windowOf } from './windows.ts'
import { greet, IN_BINARY, WebSocketClient } from './ws-client.ts'

/** Time enough for every window, also while a browser takes the cores. */
const PATIENT = { WORKERS: '1', DEADLINE_MS: '5000', MAX_DEADLINE_MS: '5000' }
/** Starts sooner, where it does not matter what answers. */
const QUICK = { ...PATIENT, INFER_MODE: 'stub' }
const BROWSER_ACCEPT = 'text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8'
const PAGE_TEST = join(PROJECT_FOLDER, 'dist/page-test')

describe('LiveFeed', () => {
  /** A feed whose time the test makes, and what it answered last. */
  function feedAt0() {
    const feed = new LiveFeed(0)
    const engine = { streams: [] } as unknown as Engine
    const answer = (stream: number, motif: number, answeredMs: number, tookMs = 1) => {
      const output = new Float32Array(LATENT_DIMS + 12)
      output[LATENT_DIMS + motif] = 1
      const window = { arrivedMs: answeredMs - tookMs, waiter: { origin: { ...ORIGIN, stream } } }
      feed.windowAnswered(window as never, { output, queueWaitMs: 0.5 } as never, answeredMs, answeredMs)
    }
    const tickAt = (nowMs: number) => {
      feed.tick(engine, nowMs)
      return JSON.parse(feed.ticksAfter(-1).at(-1)!)
    }
    return { feed, answer, tickAt }
  }

  test('tick() tells of each client the first motif of every tenth of a second, and all of its answers', () => {
    const { answer, tickAt } = feedAt0()
    answer(0, 3, 10)
    answer(7, 0, 120)
    answer(7, 11, 130)
    answer(7, 2, 999)
    answer(7, 1, 1500) // the timer was late
    expect(tickAt(1600).lanes).toEqual([
      { stream: 0, answered: 1, marks: 'D.........' },
      { stream: 7, answered: 4, marks: '.A.......C' },
    ])
    expect(tickAt(2600)).toMatchObject({ answered: 0, lanes: [], span_ms: 1000, wait_ms: 0 })
  })

  test('tick() counts answers around 45 ms, and errors by their codes', () => {
    const { feed, answer, tickAt } = feedAt0()
    for (const tookMs of [44.9, 45, 45.1, 10_000]) answer(0, 0, 500, tookMs)
    for (const code of ['overloaded', 'overloaded', 'draining']) feed.windowFailed(code)
    const { latency, failed, answered } = tickAt(1000)
    expect([answered, failed]).toEqual([4, { overloaded: 2, draining: 1 }])
    expect(latency.slice(-7)).toEqual([2, 1, 0, 0, 0, 0, 1])
  })

  test('whatever comes, two minutes of at most sixteen clients are kept', () => {
    const { feed, answer, tickAt } = feedAt0()
    for (let second = 0; second < HISTORY_TICKS + 30; second++) {
      for (let stream = 0; stream < 200; stream++) answer(stream, stream % 12, second * 1000 + stream)
      const { lanes, hidden } = tickAt((second + 1) * 1000)
      expect([lanes.length, hidden]).toEqual([MAX_LANES, 200 - MAX_LANES])
    }
    const ticks = feed.ticksAfter(-1)
    expect([ticks.length, JSON.parse(ticks[0]!).tick]).toEqual([HISTORY_TICKS, 30])
    expect(Math.max(...ticks.map(({ length }) => length))).toBeLessThan(2000)
    expect(feed.ticksAfter(HISTORY_TICKS + 28)).toHaveLength(1)
    expect(feed.ticksAfter(HISTORY_TICKS + 29)).toHaveLength(0)
  })

  test('a client that is silent for ten seconds gives its lane to another', () => {
    const { answer, tickAt } = feedAt0()
    for (let stream = 1; stream <= MAX_LANES; stream++) answer(stream, 0, 0)
    expect(tickAt(1000)).toMatchObject({ hidden: 1 })
    for (let second = 2; second <= 11; second++) expect(tickAt(second * 1000)).toMatchObject({ lanes: [] })
    answer(99, 5, 11_000)
    expect(tickAt(12_000)).toMatchObject({ hidden: 0, lanes: [{ stream: 99, marks: 'F.........' }] })
  })
})

describe('the server', () => {
  let server: TestServer
  beforeAll(async () => {
    server = await startServer({ ...PATIENT, API_KEY: 'alpha' })
  })
  afterAll(() => server.stop())

  test('GET /live tells the motif that the client was told, once a tick has passed, and each tick once', async () => {
    const headers = { 'X-API-Key': 'alpha' }
    const { json } = await postWindow(server, windowOf(3), headers)
    await ask(server, 'POST /infer', { headers: { ...headers, 'Content-Type': JSON_TYPE }, body: '{}' })
    const scores: number[] = json.motif_scores
    const letter = String.fromCharCode(65 + scores.indexOf(Math.max(...scores)))
    const live = async (after: number): Promise<Live> =>
      (await ask(server, `GET /live?after=${after}`, { headers })).json
    const counts = async () => {
      const { ticks } = await live(-1)
      const failed = ticks.flatMap(tick => Object.entries(tick.failed))
      return { answered: ticks.reduce((sum, tick) => sum + tick.answered, 0), failed }
    }
    await until(async () => {
      const { answered, failed } = await counts()
      return answered > 0 && failed.length > 0
    })
    expect(await counts()).toEqual({ answered: 1, failed: [['invalid_window', 1]] })
    const { ticks, now, provenance } = await live(-1)
    const tick = ticks.find(({ answered }) => answered > 0)!
    expect(tick.lanes).toMatchObject([{ stream: 0, answered: 1 }])
    expect(tick.lanes[0]!.marks.replaceAll('.', '')).toBe(letter)
    expect(tick.latency.reduce((sum, count) => sum + count)).toBe(1)
    expect((await live(ticks.at(-1)!.tick)).ticks.length).toBeLessThan(ticks.length)
    expect(now).toMatchObject({
      ready: true,
      answering: ['onnx'],
      workers: [{ backend: 'onnx', in_flight: 0 }],
    })
    expect(provenance).toMatchObject({ golden: 'passed', mode: 'onnx', deadline_ms: 5000 })
  })

  test('the page is open to everyone and holds nothing; what it shows needs the key', async () => {
    expect((await ask(server, 'GET /live')).status).toBe(401)
    expect((await ask(server, 'GET /')).status).toBe(401)
    expect((await ask(server, 'GET /', { headers: { Accept: BROWSER_ACCEPT } })).status).toBe(200)
    expect((await ask(server, 'GET /page/recording.json')).status).toBe(200)
  })

  test.each([
    ['*/*', 'application/json'],
    ['application/json, text/html;q=0.9', 'application/json'],
    ['text/html', 'text/html'],
    [BROWSER_ACCEPT, 'text/html'],
  ])('GET / for %s is %s', async (accept, type) => {
    const { headers } = await ask(server, 'GET /', { headers: { Accept: accept, 'X-API-Key': 'alpha' } })
    expect(headers['content-type']).toContain(type)
    expect(headers.vary).toBe('Accept, Origin')
  })

  test('the page has nothing inline and nothing from elsewhere, and its parts are there', async () => {
    const page = await ask(server, 'GET /', { headers: { Accept: BROWSER_ACCEPT } })
    expect(page.headers['content-security-policy']).toMatch(/^default-src 'none'; script-src 'self';/)
    expect(page.headers['content-security-policy']).not.toContain('unsafe')
    const html = String(page.body)
    expect(html).not.toMatch(/<script>|<style|\sstyle=|\son\w+=/)
    const loaded = [...html.matchAll(/(?:<script[^>]*src|<link[^>]*href)="(?!data:)([^"]+)"/g)]
    expect(loaded.map(([, address]) => address)).toEqual(['page/page.css', 'page/page.js'])
    for (const part of ['page.css', 'page.js', 'licences.txt', 'recording.f32', 'recording.u8']) {
      expect((await ask(server, `GET /page/${part}`)).status, part).toBe(200)
    }
    expect(String((await ask(server, 'GET /page/licences.txt')).body)).toMatch(/Leon Sorokin/)
    for (const path of ['/page/', '/page/build.js', '/page/..%2fpackage.json', '/page/page.js/']) {
      expect((await ask(server, `GET ${path}`, { headers: { 'X-API-Key': 'alpha' } })).status, path).toBe(404)
    }
  })
})

/** In front of a server, over a link on which `GET /live` takes longer than the page waits for a sign of it. */
async function startSlowProxy({ url }: TestServer): Promise<{ url: string }> {
  const proxy = createServer(async (request, response) => {
    const { accept = '' } = request.headers
    const answer = await fetch(`${url}${request.url}`, { headers: { accept } })
    response.setHeader('Content-Type', answer.headers.get('content-type')!)
    const body = Buffer.from(await answer.arrayBuffer())
    if (!request.url!.startsWith('/live')) return response.end(body)
    for (let piece = 0; piece < 4; piece++) {
      response.write(body.subarray((piece * body.length) / 4, ((piece + 1) * body.length) / 4))
      await sleep(1100)
    }
    response.end()
  })
  await once(proxy.listen(0, '127.0.0.1'), 'listening')
  onTestFinished(() => {
    proxy.close()
    proxy.closeAllConnections()
  })
  return { url: `http://127.0.0.1:${(proxy.address() as AddressInfo).port}` }
}

describe.skipIf(!HAS_CHROMIUM)(
  `the page in Chromium${HAS_CHROMIUM ? '' : ': skipped, it is not installed'}`,
  () => {
    let server: TestServer
    let browser: Browser
    beforeAll(async () => {
      mkdirSync(PAGE_TEST, { recursive: true })
      ;[server, browser] = await Promise.all([startServer(PATIENT), launchChromium()])
    })
    afterAll(() => Promise.all([browser?.close(), server?.stop()]))

    /** Opens the page. In the end nothing may have been asked of another host, and no error told in the console. */
    async function open(
      { url }: { url: string } = server,
      options: Parameters<Browser['newContext']>[0] = {},
      expectedErrors = /^$/,
    ): Promise<Page> {
      const context: BrowserContext = await browser.newContext(options)
      const page = await context.newPage()
      const strangers: string[] = []
      const errors: string[] = []
      page.on('request', request => {
        if (!['', new URL(url).host].includes(new URL(request.url()).host)) strangers.push(request.url())
      })
      page.on('websocket', socket => {
        if (new URL(socket.url()).host !== new URL(url).host) strangers.push(socket.url())
      })
      page.on('pageerror', error => errors.push(String(error)))
      page.on('console', message => {
        if (['error', 'warning'].includes(message.type()) && !expectedErrors.test(message.text()))
          errors.push(message.text())
      })
      onTestFinished(async () => {
        await context.close()
        expect([strangers, errors]).toEqual([[], []])
      })
      await page.goto(url)
      return page
    }

    /** Keeps the next question of a page on its way. Resolves when it was asked, with what lets it go on. */
    function nextHeld(page: Page): Promise<() => void> {
      return new Promise(resolve => {
        void page.route('**/live*', route => resolve(() => void route.continue()), { times: 1 })
      })
    }

    test('a client of /stream gets a row with its motif while it sends; pictures are kept of it', async () => {
      const page = await open()
      await page.waitForSelector('#state[data-state=live]')
      expect(await page.textContent('#state')).toMatch(
        /^Live: ONNX Runtime answers on the CPU, (there is room|it fills up)$/,
      )
      const client = await WebSocketClient.open(server)
      await greet(client, IN_BINARY)
      client.send(IN_BINARY.window(0, windowOf(3)), IN_BINARY.window(1, windowOf(3)))
      const [said] = await client.answers(2)
      const scores = said!.bits.subarray(LATENT_DIMS)
      const motif = scores.indexOf(Math.max(...scores))
      const row = page.locator('#lanes li', { hasText: /^Stream \d+/ }).last()
      await row.waitFor()
      const legend = await page.locator('#legend li').nth(motif).textContent()
      await row.getByText(legend!).waitFor()
      expect(await page.evaluate(isDrawn('#lanes li:last-child canvas'))).toBe(true)
      expect(await page.evaluate(isDrawn('#latency canvas'))).toBe(true)
      expect(await page.textContent('#lanes-summary')).toMatch(
        /^Answers of the last two minutes to \d streams?\.$/,
      )
      expect(await page.textContent('#latency-summary')).toMatch(/^Half of \d answers within [\d.]+ ms/)
      expect(await page.locator('#provenance').textContent()).toMatch(/[0-9a-f]{64}/)
      expect(await page.locator('#workers tr').count()).toBe(1)
      for (const scheme of ['light', 'dark'] as const) {
        await page.emulateMedia({ colorScheme: scheme })
        await page.screenshot({ path: join(PAGE_TEST, `live-page-${scheme}.png`), fullPage: true })
      }
    })

    test('a restart of the server is told, and the page begins anew with what the new one says', async () => {
      // What a killed server leaves of its connections keeps others from a port that it had from the system.
      const env = { ...QUICK, SIDECAR_PORT: String(await freePort()) }
      const first = await startServerForTest(env)
      const page = await open(first, {}, /ERR_CONNECTION_REFUSED|ERR_EMPTY_RESPONSE|ERR_CONNECTION_RESET/)
      await postWindow(first, windowOf(0))
      await page.waitForSelector('#lanes li')
      await page.selectOption('#try-speed', '1')
      await page.getByRole('button', { name: 'Start the replay' }).click()
      await page.getByText(/^Replaying/).waitFor()
      await first.stop('SIGKILL')
      await page.waitForSelector('#state[data-state=lost]')
      expect(await page.textContent('#state')).toMatch(/^Lost: it cannot be reached/)
      expect(await page.locator('#lanes li').count()).toBeGreaterThan(0)
      await page.getByText('Waiting for the server').waitFor()
      await page.getByRole('button', { name: 'Stop the replay' }).click()
      await page.getByText('Stopped.').waitFor()
      await startServerForTest(env)
      await page.getByText('Live: the stub answers, with made-up results').waitFor()
      await page.waitForSelector('#lanes li', { state: 'detached' })
    })

    test('an answer may come slowly, one that makes no sense is told, and nothing is asked while nobody looks', async () => {
      const slow = await open(await startSlowProxy(server))
      const page = await open()
      await page.waitForSelector('#state[data-state=live]')
      await page.route('**/live*', route => route.fulfill({ json: { status: 'starting' } }), { times: 1 })
      await page.getByText('Lost: its answer makes no sense').waitFor()
      await page.waitForSelector('#state[data-state=live]')
      await page.evaluate(LOOK_AWAY)
      let asked = 0
      page.on('request', () => asked++)
      await slow.waitForSelector('#state[data-state=live]')
      expect(asked).toBe(0)
    })

    test('"Try it" plays the recording through the WebSocket until it is stopped, and tells how right it is', async () => {
      const page = await open()
      await page.selectOption('#try-speed', { label: '20×' })
      await page.getByRole('button', { name: 'Start the replay' }).click()
      await page.waitForSelector('#workers td')
      await page.evaluate('window.cell = document.querySelector("#workers td")')
      const counts = async () =>
        /^(\d+) of (\d+)/
          .exec((await page.textContent('#try-count'))!)
          ?.slice(1)
          .map(Number)
      await until(async () => ((await counts())?.[1] ?? 0) >= 60)
      expect(await page.evaluate(FOCUSED)).toBe('try-button')
      await page.getByRole('button', { name: 'Stop the replay' }).click()
      await page.getByText('Stopped.').waitFor()
      const [right, answered] = (await counts()) as [number, number]
      const accuracy = Number(await page.textContent('#try-accuracy'))
      expect(accuracy).toBeCloseTo(right / answered, 2)
      expect(accuracy).toBeGreaterThan(0.75)
      expect(Number(await page.textContent('#try-round-trip'))).toBeGreaterThan(0)
      expect(await page.textContent('#try')).toContain('CC BY 4.0')
      expect(await page.evaluate(LOOKS_AS_DRAWN_ANEW)).toBe(true)
      // What somebody selects there stays.
      expect(await page.evaluate('window.cell.isConnected')).toBe(true)
      const told = await page.locator('#lanes li:last-child canvas').getAttribute('aria-label')
      expect(told).toMatch(/^In two minutes: [A-L] [a-z ]+ \d+ %, /)
    })

    test('"Try it" tells how windows fail, also when none has an answer, and that the recording cannot be loaded', async () => {
      const held = await startFaultyServer({ DEADLINE_MS: '50' })
      const page = await open(held, {}, /ERR_FAILED/)
      await page.selectOption('#try-speed', '20')
      await page.route('**/recording.f32', route => route.abort(), { times: 1 })
      await page.getByRole('button', { name: 'Start the replay' }).click()
      await page.getByText('The recording cannot be loaded').waitFor()
      const { answer } = await held.hold()
      await page.getByRole('button', { name: 'Start the replay' }).click()
      await page.getByText(/^0 of 0, \d+ (deadline_exceeded|overloaded)/).waitFor()
      held.release()
      await answer
    })

    test('with API_KEY the page asks for the key and works with it, the WebSocket too', async () => {
      const guarded = await startServerForTest({ ...QUICK, API_KEY: 'alpha' })
      const page = await open(guarded, {}, /401/)
      await page.getByRole('textbox', { name: 'API key' }).fill('ключ')
      await page.getByRole('button', { name: 'Use this key' }).click()
      expect(await page.locator('#key-input:invalid').count()).toBe(1)
      await page.getByRole('textbox', { name: 'API key' }).fill(' be/ta == ')
      await page.getByRole('button', { name: 'Use this key' }).click()
      await page.getByText('The server does not take this API key').waitFor()
      const asked = nextHeld(page)
      await page.getByRole('textbox', { name: 'API key' }).fill('gamma')
      await page.keyboard.press('Enter')
      const goOn = await asked
      await page.getByRole('textbox', { name: 'API key' }).fill('alpha')
      await page.keyboard.press('Enter')
      goOn()
      await page.getByText(/^Live: /).waitFor()
      expect(await page.isVisible('#key')).toBe(false)
      expect(await page.evaluate(FOCUSED)).toBe('motifs-title')
      await page.getByRole('button', { name: 'Start the replay' }).click()
      await until(async () => /^\d+ of \d+/.test((await page.textContent('#try-count')) ?? ''))
      await page.reload()
      await page.getByText(/^Live: /).waitFor()
    })

    test('all text has the contrast of WCAG AA, in light colours and in dark ones', async () => {
      const page = await open(server, { colorScheme: 'dark' })
      await page.waitForSelector('#workers tr')
      const grounds: unknown[] = []
      for (const scheme of ['', 'light', 'dark']) {
        await page.getByLabel('Colours').selectOption(scheme)
        grounds.push(await page.evaluate('getComputedStyle(document.body).backgroundColor'))
        const texts: { text: string; ratio: number }[] = await page.evaluate(CONTRASTS)
        expect(texts.length).toBeGreaterThan(50)
        expect(texts.filter(({ ratio }) => ratio < 4.5)).toEqual([])
      }
      expect(grounds[0]).toBe(grounds[2])
      expect(grounds[1]).not.toBe(grounds[2])
      // What was chosen outlives the page.
      await page.getByLabel('Colours').selectOption('light')
      await page.reload()
      expect(await page.getByLabel('Colours').inputValue()).toBe('light')
    })

    test('every control has a name, and a phone of 360 pixels shows all of it, in large letters too, without scrolling sideways', async () => {
      const page = await open(server, { viewport: { width: 360, height: 780 } })
      await page.waitForSelector('#workers tr')
      await page.getByLabel('Speed').focus()
      await page.keyboard.press('Tab')
      expect(await page.evaluate(FOCUSED)).toBe('try-button')
      expect(await page.evaluate('getComputedStyle(document.activeElement).outline')).toMatch(/ solid 3px$/)
      await page.keyboard.press('Enter')
      await page.waitForSelector('#try-results')
      await page.waitForSelector('#lanes li')
      expect(await page.evaluate('document.documentElement.scrollWidth')).toBe(360)
      await page.evaluate('document.documentElement.style.fontSize = "200%"')
      expect(await page.evaluate('document.documentElement.scrollWidth')).toBe(360)
      expect(await page.evaluate(NAMELESS)).toEqual([])
      expect(await page.getByRole('heading', { level: 1 }).count()).toBe(1)
      expect(await page.getAttribute('html', 'lang')).toBe('en')
      for (const landmark of ['banner', 'main', 'contentinfo', 'navigation'] as const) {
        expect(await page.getByRole(landmark).count(), landmark).toBe(1)
      }
    })
  },
)
