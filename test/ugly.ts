import { constants, deflateRawSync, deflateSync, gzipSync } from 'node:zlib'
import { headOf, jsonOf } from './http-client.ts'
import { MARK } from './telling.ts'
import { windowOf } from './windows.ts'

/** What a stranger sends over a connection of its own, as it is, and what it is. */
export type Ugly = readonly [what: string, bytes: string | Uint8Array]

const LAST = { Connection: 'close' }
const GOOD = Buffer.from(jsonOf(windowOf(0)))
const V2_INFER = 'POST /v2/models/tcn_encoder/infer'
/** A request that is to be no request but a part of another's body. */
const SMUGGLED = `GET /healthz HTTP/1.1\r\nHost: ${MARK}\r\nX-Request-ID: smuggled\r\n\r\n`
const MIB = 1024 * 1024

function raw(lines: string[], body: string | Uint8Array = ''): Uint8Array {
  return Buffer.concat([Buffer.from(`${lines.join('\r\n')}\r\n\r\n`, 'latin1'), Buffer.from(body)])
}

function get(path: string, ...lines: string[]): Uint8Array {
  return raw([`GET ${path} HTTP/1.1`, 'Host: test', 'Connection: close', ...lines])
}

function post(route: string, body: string | Uint8Array, headers: Record<string, string> = {}): Uint8Array {
  const length = Buffer.byteLength(body)
  return Buffer.concat([
    Buffer.from(headOf(route, { ...LAST, 'Content-Length': length, ...headers })),
    Buffer.from(body),
  ])
}

/** Heads beyond what there may be, or not as they are written. */
export const HEADS: readonly Ugly[] = [
  ['a header of 5,000 bytes', get('/healthz', `X-Long: ${'x'.repeat(5000)}${MARK}`)],
  ['200 headers', get('/healthz', ...Array.from({ length: 200 }, (_, n) => `X-${n}: ${MARK}`))],
  ['a header without a colon', get('/healthz', MARK)],
  ['a space before the colon', get('/healthz', `X-Mark : ${MARK}`)],
  ['a folded header', get('/healthz', 'X-Mark: a', ` ${MARK}`)],
  ['a NUL in a header', get('/healthz', `X-Mark: \0${MARK}`)],
  ['a NUL in a name', get('/healthz', `X-\0Mark: ${MARK}`)],
  ['a name of bytes beyond ASCII', get('/healthz', `X-\xff\xfe: ${MARK}`)],
  ['a bare CR in a header', get('/healthz', `X-Mark: a\rX-Injected: ${MARK}`)],
  ['bare LF for line ends', Buffer.from(`GET /healthz HTTP/1.1\nHost: test\nX-Mark: ${MARK}\n\n`)],
  ['no Host', raw(['GET /healthz HTTP/1.1', `X-Mark: ${MARK}`])],
  ['HTTP/0.9', Buffer.from(`GET /${MARK}\r\n\r\n`)],
  ['HTTP/1.0', raw(['GET /healthz HTTP/1.0', `X-Mark: ${MARK}`])],
  ['HTTP/9.9', raw(['GET /healthz HTTP/9.9', 'Host: test', `X-Mark: ${MARK}`])],
  ['no HTTP', raw([`GET /healthz ${MARK}`, 'Host: test'])],
  ['the preface of HTTP/2', `PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n${MARK}`],
  ['a TLS hello', Buffer.from(`16030100f8010000f40303${'ab'.repeat(243)}`, 'hex')],
  ['SSH', `SSH-2.0-${MARK}\r\n`],
  ['SMTP', `EHLO ${MARK}\r\nMAIL FROM:<${MARK}>\r\n`],
  ['Redis', `*1\r\n$4\r\nINFO\r\n${MARK}\r\n`],
  ['zeros', new Uint8Array(5000)],
  ['a head that begins with empty lines', `\r\n\r\n${MARK}\r\n\r\n`],
]

/** Ugly, and answered like any other. */
export const HARMLESS: readonly Ugly[] = [
  ['a name of 4,000 bytes', get('/healthz', `${'n'.repeat(4000)}: ${MARK}`)],
  ['a header without a name', get('/healthz', `: ${MARK}`)],
  ['two Hosts', get('/healthz', `Host: ${MARK}`)],
  ['Expect of something else', get('/healthz', `Expect: ${MARK}`)],
  ['an upgrade to something else', get('/healthz', 'Connection: Upgrade', `Upgrade: ${MARK}`)],
  ['a query that names what objects have', get(`/live?since=__proto__&__proto__=${MARK}`)],
  ['a deadline of ages', post('POST /infer', GOOD, { 'X-Deadline-Ms': '9'.repeat(300) })],
  ['a key twice, the second good', post('POST /infer', `{"x":"${MARK}",${String(GOOD).slice(1)}`)],
  ['__proto__ beside a window', post('POST /infer', `{"__proto__":{"x":[]},${String(GOOD).slice(1)}`)],
]

/** Bodies whose end two readers could see in two places. */
export const SMUGGLING: readonly Ugly[] = [
  ...[
    ['two lengths', 'Content-Length: 0', `Content-Length: ${SMUGGLED.length}`],
    ['a length and chunks', `Content-Length: ${SMUGGLED.length + 5}`, 'Transfer-Encoding: chunked'],
    ['chunks and a length', 'Transfer-Encoding: chunked', 'Content-Length: 5'],
    ['a vertical tab before chunked', 'Transfer-Encoding: \x0bchunked'],
    ['a space before the colon of an encoding', 'Transfer-Encoding : chunked'],
    ['a space before the colon of a length', `Content-Length : ${SMUGGLED.length}`],
    ['a folded encoding', 'Transfer-Encoding:', ' chunked'],
    ['a length with a sign', `Content-Length: +${SMUGGLED.length}`],
    ['a length in a list', 'Content-Length: 5, 5'],
    ['a length with a NUL', 'Content-Length: 5\0'],
    ['a length of 20 digits', 'Content-Length: 18446744073709551621'],
    ['a hexadecimal length', 'Content-Length: 0x5'],
    ['a length behind a bare CR', `X-Mark: a\rContent-Length: ${SMUGGLED.length}`],
    ['a length behind a bare LF', `X-Mark: a\nContent-Length: ${SMUGGLED.length}`],
  ].map(
    ([what, ...lines]): Ugly => [
      what!,
      raw(
        ['POST /infer HTTP/1.1', 'Host: test', 'Content-Type: application/json', ...lines],
        `0\r\n\r\n${SMUGGLED}`,
      ),
    ],
  ),
  ...(
    [
      ['a chunk longer than 64 bits', 'fffffffffffffffff\r\n'],
      ['a chunk as long as 64 bits allow', 'ffffffffffffffff\r\n'],
      ['a chunk of less than nothing', '-1\r\n'],
      ['a chunk with a sign', '+5\r\n'],
      ['a chunk in 0x', '0x5\r\n'],
      ['a chunk with a space before its length', ' 5\r\n'],
      ['a chunk without a length', '\r\n'],
      ['a chunk with an extension without end', `5;${MARK.repeat(2000)}`],
      ['a chunk that is longer than it says', '1\r\n'],
    ] as const
  ).map(
    ([what, size]): Ugly => [
      what,
      Buffer.from(
        `POST /infer HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n${size}hello\r\n0\r\n\r\n${SMUGGLED}`,
      ),
    ],
  ),
]

/** uWebSockets takes every encoding for chunked, and what follows the chunks for the next request: see SECURITY.md. */
export const TWO_REQUESTS: readonly Ugly[] = [
  ['two encodings', 'Transfer-Encoding: chunked', 'Transfer-Encoding: identity'],
  ['chunked and something else', 'Transfer-Encoding: chunked, identity'],
  ['an encoding that is nearly chunked', 'Transfer-Encoding: xchunked'],
  ['an encoding in quotes', 'Transfer-Encoding: "chunked"'],
  ['a tab before chunked', 'Transfer-Encoding:\tchunked'],
].map(
  ([what, ...lines]): Ugly => [
    what!,
    raw(['POST /infer HTTP/1.1', 'Host: test', ...lines], `0\r\n\r\n${SMUGGLED}`),
  ],
)

/** Likewise: a bare LF ends the length of a chunk. */
export const LOOSE_CHUNKS: readonly Ugly[] = [
  [
    'a chunk whose length ends in a bare LF',
    raw(
      ['POST /infer HTTP/1.1', 'Host: test', 'Transfer-Encoding: chunked'],
      `5\nhello\r\n0\r\n\r\n${SMUGGLED}`,
    ),
  ],
]

/** Paths that lead out of where they begin, or are none. */
export const PATHS: readonly Ugly[] = [
  ...['/page/', '/docs/', '/', '/v2/models/', '/live/../'].flatMap(root =>
    [
      '../package.json',
      '../../../../etc/passwd',
      '%2e%2e/%2e%2e/%2e%2e/etc/passwd',
      '..%2f..%2f..%2fetc%2fpasswd',
      '%252e%252e%252fetc%252fpasswd',
      '..\\..\\etc\\passwd',
      '....//....//etc/passwd',
      '%c0%ae%c0%ae/%c0%ae%c0%ae/etc/passwd',
      'page.js/../../../package.json',
      'page.js%00.css',
      '/etc/passwd',
      'file:///etc/passwd',
      'C:\\windows\\win.ini',
    ].map((path): Ugly => [`${root}${path}`, get(`${root}${path}?${MARK}`)]),
  ),
  ...['__proto__', 'constructor', 'toString', 'hasOwnProperty', 'constructor/prototype'].flatMap(name =>
    ['/', '/v2/models/', '/page/'].map((root): Ugly => [`${root}${name}`, get(`${root}${name}`)]),
  ),
  ['a path of 3,000 bytes', get(`/${'a'.repeat(3000)}${MARK}`)],
  ['a path of 100,000 bytes', get(`/${'a'.repeat(100_000)}${MARK}`)],
  ['a path of 1,000 folders', get(`${'/a'.repeat(1000)}/${MARK}`)],
  ['a query of 3,000 values', get(`/nowhere?${'a&'.repeat(1500)}${MARK}`)],
  ['a whole URL', get(`http://${MARK}/nowhere`)],
  ['another host', get(`//${MARK}/nowhere`)],
  ['no path', raw(['GET  HTTP/1.1', 'Host: test'])],
  ['a star', get('*')],
  ['a path with a space', get(`/a ${MARK}`)],
  ['a path with a NUL', get(`/\0${MARK}`)],
  ['a path of bytes beyond ASCII', get(`/\xff\xfe${MARK}`)],
  ['bad percents', get(`/%zz%${MARK}`)],
  ['bad percents for a model', get(`/v2/models/%zz%${MARK}/versions/%`)],
  ['a model of another name', post(`POST /v2/models/${MARK}/infer`, '{}')],
]

export const METHODS: readonly Ugly[] = [
  'TRACE', // must not show the request
  'TRACK',
  'CONNECT',
  'DEBUG',
  'PROPFIND',
  'PUT',
  'DELETE',
  'PATCH',
  'get',
  'gEt',
  '__proto__',
  'constructor',
  MARK,
  'G\0T',
  'A'.repeat(3000),
  '',
].map(
  (method): Ugly => [
    `method ${JSON.stringify(method.slice(0, 12))}`,
    raw([
      `${method} /infer HTTP/1.1`,
      'Host: test',
      'Connection: close',
      `X-Mark: ${MARK}`,
      'Content-Length: 0',
    ]),
  ],
)

/** What is echoed where it is sane. */
export const ECHOES: readonly Ugly[] = ['X-Request-ID', 'X-Correlation-ID', 'traceparent', 'Origin'].flatMap(
  name =>
    [
      ['with a bare CR', `a\rX-Injected: ${MARK}`],
      ['with a bare LF', `a\nX-Injected: ${MARK}`],
      ['with CR and LF in percents', '%0d%0aX-Injected:%201'], // is echoed, as it is
      ['with a line separator', `a\xe2\x80\xa8X-Injected: ${MARK}`],
      ['of 129 characters', MARK.repeat(22).slice(0, 129)],
      ['with bytes beyond ASCII', `a\xff\xfe${MARK}`],
      ['with a tab', `a\t${MARK}`],
      ['with a NUL', `a\0${MARK}`],
      ['of markup', `<script>${MARK} </script>`],
    ].map(([what, value]): Ugly => [`${name} ${what}`, get('/nowhere', `${name}: ${value}`)]),
)

const deep = (open: string, close: string, depth: number) =>
  `${open.repeat(depth)}"${MARK}"${close.repeat(depth)}`
const JSONS: readonly Ugly[] = [
  ['nothing', ''],
  ['spaces', ' '.repeat(200_000)],
  ['brackets', deep('[', ']', 60_000)],
  ['brackets without end', '['.repeat(200_000)],
  ['braces', deep('{"a":', '}', 30_000)],
  ['brackets in x', `{"x":${deep('[', ']', 60_000)}}`],
  ['a number of 100,000 digits', `{"x":${'9'.repeat(100_000)}}`],
  ['a window of 1e999', jsonOf(windowOf(0)).replace(/-?\d+\.\d+/, '1e999')],
  [
    'a window with a number of 50,000 digits',
    jsonOf(windowOf(0)).replace(/-?\d+\.\d+/, `0.${'1'.repeat(50_000)}e99`),
  ],
  [
    'a window with an exponent of 50,000 digits',
    jsonOf(windowOf(0)).replace(/-?\d+\.\d+/, `1e${'9'.repeat(50_000)}`),
  ],
  ['NaN', '{"x":NaN}'],
  ['a window of texts', jsonOf(windowOf(0)).replace(/-?\d+\.\d+/, `"${MARK}"`)],
  ['a key twice, the second bad', `{"x":[],"x":"${MARK}"}`],
  ['__proto__', `{"__proto__":{"x":"${MARK}"}}`],
  ['constructor', `{"constructor":{"prototype":{"x":"${MARK}"}}}`],
  ['what looks like an array', `{"x":{"length":100,"0":"${MARK}"}}`],
  ['a length of 4 billion', '{"x":{"length":4294967295}}'],
  ['keys without end', `{${Array.from({ length: 20_000 }, (_, n) => `"${n}":1`).join()}}`],
  ['half a surrogate', `{"x":"\\ud800${MARK}"}`],
  ['a comment', `{/*${MARK}*/"x":[]}`],
  ['a comma too many', `{"x":[],"${MARK}":1,}`],
  ['single quotes', `{'x':'${MARK}'}`],
  ['a text without end', `{"x":"${MARK}`],
  ['an escape without end', `{"x":"${'\\'.repeat(100_001)}`],
  ['null', 'null'],
  ['a number', '7'],
  ['two documents', `{"x":[]}{"${MARK}":1}`],
]

export const BODIES: readonly Ugly[] = [
  ...['POST /infer', 'POST /encode', V2_INFER].flatMap(route =>
    JSONS.map(
      ([what, json]): Ugly => [
        `${route} of ${what}`,
        post(route, json, { 'Content-Type': 'application/json' }),
      ],
    ),
  ),
  ...['/v2/repository/index', '/v2/repository/models/tcn_encoder/unload'].flatMap(path =>
    JSONS.slice(2, 5).map(([what, json]): Ugly => [`POST ${path} of ${what}`, post(`POST ${path}`, json)]),
  ),
  [
    'invalid UTF-8',
    post('POST /infer', Buffer.from([0x7b, 0x22, 0xff, 0xfe, 0x22, 0x7d]), {
      'Content-Type': 'application/json',
    }),
  ],
  [
    'UTF-16',
    post('POST /infer', Buffer.from(`\ufeff{"x":"${MARK}"}`, 'utf16le'), {
      'Content-Type': 'application/json',
    }),
  ],
  [
    'a type of another kind',
    post('POST /infer', MARK, { 'Content-Type': `multipart/form-data; boundary=${MARK}` }),
  ],
  [
    'XML with an entity',
    post('POST /infer', `<!DOCTYPE a [<!ENTITY b SYSTEM "file:///etc/passwd">]><a>&b;${MARK}</a>`, {
      'Content-Type': 'text/xml',
    }),
  ],
  ['a deadline that is none', post('POST /infer', GOOD, { 'X-Deadline-Ms': MARK })],
]

/** Bodies that grow when they are inflated, or cannot be. */
export const PACKED: readonly Ugly[] = (
  [
    ['zeros in gzip', 'gzip', gzipSync(Buffer.alloc(64 * MIB))],
    ['zeros in deflate', 'deflate', deflateSync(Buffer.alloc(64 * MIB))],
    ['zeros in bare deflate', 'deflate', deflateRawSync(Buffer.alloc(64 * MIB))],
    ['thousands of small gzips', 'gzip', Buffer.concat(new Array(3000).fill(gzipSync(Buffer.alloc(30_000))))],
    ['gzip in gzip', 'gzip', gzipSync(gzipSync(GOOD))],
    ['gzip with a wrong sum', 'gzip', withByte(gzipSync(GOOD), -6)],
    ['gzip with a wrong length', 'gzip', withByte(gzipSync(GOOD), -1)],
    ['gzip that is cut', 'gzip', gzipSync(GOOD).subarray(0, 200)],
    ['what is no gzip', 'gzip', Buffer.from(MARK.repeat(100))],
    [
      'stored blocks without end',
      'deflate',
      deflateRawSync(GOOD, { level: 0, finishFlush: constants.Z_SYNC_FLUSH }),
    ],
    ['a coding that nobody knows', MARK, GOOD],
    ['a coding of two', 'gzip, gzip', gzipSync(gzipSync(GOOD))],
  ] as const
).map(([what, encoding, body]): Ugly => [what, post(V2_INFER, body, { 'Content-Encoding': encoding })])

function withByte(bytes: Buffer, at: number): Buffer {
  const changed = Buffer.from(bytes)
  changed[changed.length + at]! ^= 0xff
  return changed
}

interface FrameParts {
  readonly opcode: number
  readonly payload?: string | Uint8Array
  readonly last?: boolean
  /** The three bits behind that of the last frame, 0 to 7. */
  readonly reserved?: number
  readonly masked?: boolean
  /** What the head says of the length, in as many bytes. */
  readonly lengthBytes?: readonly number[]
}

/** A frame of RFC 6455, right or wrong; masked with zeros. */
function frame({
  opcode,
  payload = '',
  last = true,
  reserved = 0,
  masked = true,
  lengthBytes,
}: FrameParts): Uint8Array {
  const body = Buffer.from(payload)
  const length =
    lengthBytes ?? (body.length < 126 ? [body.length] : [126, body.length >> 8, body.length & 255])
  const [first, ...further] = length
  const mask = masked ? [0, 0, 0, 0] : []
  const head = [
    (last ? 0x80 : 0) | (reserved << 4) | opcode,
    (masked ? 0x80 : 0) | first!,
    ...further,
    ...mask,
  ]
  return Buffer.concat([Buffer.from(head), body])
}

const { continuation, text, close, ping } = { continuation: 0, text: 1, close: 8, ping: 9 }
const closing = (code: number) => frame({ opcode: close, payload: Buffer.from([code >> 8, code & 255]) })

/** After the hello of `GET /stream`: what ends the connection. */
export const FRAMES: readonly Ugly[] = [
  ...[1, 2, 3, 4, 7].map(
    (reserved): Ugly => [`reserved bits ${reserved}`, frame({ opcode: text, payload: MARK, reserved })],
  ),
  [
    'a bomb of deflate that nobody agreed on',
    frame({ opcode: text, payload: deflateRawSync(Buffer.alloc(10 * MIB)).subarray(0, 60_000), reserved: 4 }),
  ],
  ...[3, 7, 0xb, 0xf].map((opcode): Ugly => [`opcode ${opcode}`, frame({ opcode, payload: MARK })]),
  ['a ping of 126 bytes', frame({ opcode: ping, payload: 'p'.repeat(126) })],
  ['a ping in parts', frame({ opcode: ping, payload: MARK, last: false })],
  ['a close of 126 bytes', frame({ opcode: close, payload: 'c'.repeat(126) })],
  ['a close of one byte', frame({ opcode: close, payload: 'c' })],
  ...[0, 999, 1005, 1006, 1015, 65_535].map((code): Ugly => [`a close with ${code}`, closing(code)]),
  ['a close whose reason is no UTF-8', frame({ opcode: close, payload: Buffer.from([3, 232, 0xff, 0xfe]) })],
  ['a continuation of nothing', frame({ opcode: continuation, payload: MARK })],
  [
    'a text within a text',
    Buffer.concat([0, 1].map(() => frame({ opcode: text, payload: MARK, last: false }))),
  ],
  ['a length of 2^63 bytes', frame({ opcode: text, lengthBytes: [127, 0x80, 0, 0, 0, 0, 0, 0, 0] })],
  ['a length of 2^53 bytes', frame({ opcode: text, lengthBytes: [127, 0, 0x20, 0, 0, 0, 0, 0, 0] })],
  ['a length in more bytes than it needs', frame({ opcode: ping, payload: 'p', lengthBytes: [126, 0, 1] })],
  ['a text that is no UTF-8', frame({ opcode: text, payload: Buffer.from([0xff, 0xfe, 0xc0, 0xaf]) })],
  [
    'parts without end',
    Buffer.concat([
      frame({ opcode: text, payload: 'a'.repeat(9000), last: false }),
      ...new Array(80).fill(frame({ opcode: continuation, payload: 'a'.repeat(9000), last: false })),
    ]),
  ],
  [
    'a thousand messages that are none',
    Buffer.concat(new Array(1000).fill(frame({ opcode: text, payload: `{"type":"${MARK}"}` }))),
  ],
  ['a thousand empty messages', Buffer.concat(new Array(1000).fill(frame({ opcode: text })))],
]

/** What does not end it. */
export const FRAMES_TO_BEAR: readonly Ugly[] = [
  // uWebSockets takes the first four bytes for the mask, and waits for four more at the end.
  [
    'a frame without a mask',
    Buffer.concat([frame({ opcode: text, payload: MARK, masked: false }), Buffer.alloc(4)]),
  ],
  ['thousands of pings', Buffer.concat(new Array(5000).fill(frame({ opcode: ping, payload: 'p' })))],
  ['thousands of pongs that nobody asked for', Buffer.concat(new Array(5000).fill(frame({ opcode: 10 })))],
  [
    'a bye in a thousand parts',
    Buffer.concat([
      frame({ opcode: text, payload: '{"type":', last: false }),
      ...new Array(998).fill(frame({ opcode: continuation, last: false })),
      frame({ opcode: continuation, payload: `"${MARK}"}` }),
    ]),
  ],
]
