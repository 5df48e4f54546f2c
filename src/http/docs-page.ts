import { readFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { dirname, join } from 'node:path'
import type { Answer } from './reply.ts'

/**
 * `GET /docs`: Swagger UI over /openapi.json, with nothing from another host. Addresses in it are
 * relative, so that it works also where a proxy puts it into a folder.
 */

const PAGE = `<!doctype html>
<html lang="en">
  <head>
    <meta charset="utf-8">
    <meta name="viewport" content="width=device-width">
    <title>hailo-inference</title>
    <link rel="icon" href="data:,">
    <link rel="stylesheet" href="docs/swagger-ui.css">
  </head>
  <body>
    <div id="docs"></div>
    <script src="docs/swagger-ui-bundle.js"></script>
    <script src="docs/start.js"></script>
  </body>
</html>
`

/** A file of its own, as the policy lets no script stand in the page. */
const START_SCRIPT = `SwaggerUIBundle({
  url: 'openapi.json',
  dom_id: '#docs',
  deepLinking: true,
  validatorUrl: null, // else the document would be sent to swagger.io
  presets: [SwaggerUIBundle.presets.apis],
  layout: 'BaseLayout',
})
`

/** Swagger UI styles its elements inline, and brings its images along in its style sheet. */
const POLICY = [
  "default-src 'self'",
  "style-src 'self' 'unsafe-inline'",
  "img-src 'self' data:",
  "base-uri 'none'",
  "frame-ancestors 'none'",
].join('; ')

const JAVASCRIPT = 'text/javascript; charset=utf-8'

/** The page and its parts, each under a path of its own: nothing that a client sends becomes a file's name. */
export const DOCS_PAGES: Readonly<Record<string, () => Answer>> = {
  '/docs': () => part('text/html; charset=utf-8', PAGE, { 'Content-Security-Policy': POLICY }),
  '/docs/start.js': () => part(JAVASCRIPT, START_SCRIPT),
  '/docs/swagger-ui.css': library('text/css; charset=utf-8', 'swagger-ui.css'),
  '/docs/swagger-ui-bundle.js': library(JAVASCRIPT, 'swagger-ui-bundle.js'),
}

/** A file of Swagger UI, read when it is asked for the first time. */
function library(contentType: string, name: string): () => Answer {
  let content: Buffer | null = null
  return () => {
    content ??= readFileSync(join(libraryFolder(), name))
    return part(contentType, content, { 'Cache-Control': 'max-age=86400' })
  }
}

function libraryFolder(): string {
  return dirname(createRequire(import.meta.url).resolve('swagger-ui-dist/package.json'))
}

function part(contentType: string, body: string | Uint8Array, headers: Record<string, string> = {}): Answer {
  const common = {
    'Content-Type': contentType,
    'Cache-Control': 'no-cache',
  }
  return { status: 200, headers: { ...common, ...headers }, body }
}
