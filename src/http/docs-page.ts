import { readFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { dirname, join } from 'node:path'
import { CSS, HTML, JAVASCRIPT, pagePart } from './page-part.ts'
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

/** The page and its parts, each under a path of its own: nothing that a client sends becomes a file's name. */
export const DOCS_PAGES: Readonly<Record<string, () => Answer>> = {
  '/docs': () => pagePart(HTML, PAGE, { 'Content-Security-Policy': POLICY }),
  '/docs/start.js': () => pagePart(JAVASCRIPT, START_SCRIPT),
  '/docs/swagger-ui.css': library(CSS, 'swagger-ui.css'),
  '/docs/swagger-ui-bundle.js': library(JAVASCRIPT, 'swagger-ui-bundle.js'),
}

/** A file of Swagger UI, read when it is asked for the first time. */
function library(contentType: string, name: string): () => Answer {
  let content: Buffer | null = null
  return () => {
    content ??= readFileSync(join(libraryFolder(), name))
    return pagePart(contentType, content, { 'Cache-Control': 'max-age=86400' })
  }
}

function libraryFolder(): string {
  return dirname(createRequire(import.meta.url).resolve('swagger-ui-dist/package.json'))
}
