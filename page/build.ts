/** Bundles the live page into dist/page: one script, one style sheet, the page, and the licences of what is in them. */
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { PROJECT_FOLDER } from '../src/project.ts'

const SOURCE = join(PROJECT_FOLDER, 'page/app')
const TARGET = join(PROJECT_FOLDER, 'dist/page')
const PACKAGES = join(PROJECT_FOLDER, 'node_modules')
/** Packages whose code ends up in the page. */
const BUNDLED = ['uplot', 'typed-binary']

// Its binding is of one platform, and may be missing on another: --if-possible is for those who install the server.
const { rolldown } = await import('rolldown').catch((error: Error) => {
  if (!process.argv.includes('--if-possible')) throw error
  const [why] = error.message.split('\n')
  console.warn(`The live page is not built, and the server works without it: ${why}`)
  process.exit(0)
})
const bundle = await rolldown({
  input: join(SOURCE, 'main.ts'),
  platform: 'browser',
  tsconfig: false,
  onLog(level, log) {
    if (level !== 'debug' && level !== 'info') throw new Error(log.message)
  },
})
const { output } = await bundle.write({
  file: join(TARGET, 'page.js'),
  format: 'es',
  minify: true,
  sourcemap: false,
})
await bundle.close()
const foreign = new Set(output[0].moduleIds.flatMap(id => /node_modules\/([^/]+)\//.exec(id)?.[1] ?? []))
if ([...foreign].some(name => !BUNDLED.includes(name))) {
  throw new Error(
    `The page bundles ${[...foreign].join(', ')}, and licences are told of ${BUNDLED.join(', ')} alone`,
  )
}

write('index.html', read(SOURCE, 'index.html'))
write('page.css', `${read(PACKAGES, 'uplot/dist/uPlot.min.css')}\n${read(SOURCE, 'page.css')}`)
write('licences.txt', BUNDLED.map(name => `${name}\n\n${read(PACKAGES, `${name}/LICENSE`)}`).join('\n\n'))

function read(folder: string, name: string): string {
  return readFileSync(join(folder, name), 'utf8')
}

function write(name: string, text: string): void {
  writeFileSync(join(TARGET, name), text)
}
