import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { basename, dirname, join, relative } from 'node:path'
import { expect, test } from 'vitest'
import { page, sectionsOf } from '../bench/report/page.ts'
import { readResults } from '../bench/report/results.ts'
import { MENU } from '../bench/suites/menu.ts'

/** Made or fetched, or somebody else's. */
const NOT_OURS = ['node_modules', 'dist', 'native/build', 'release']
/** Files that a command makes. */
const MADE = ['sbom.cdx.json', 'parity.md', 'parity.json']

const FILES = filesIn('.')
const FOLDERS = [...new Set(FILES.flatMap(file => foldersOf(file)))]
const MARKDOWN = FILES.filter(file => file.endsWith('.md'))
/** The front page, the changelog and the policy are as their readers elsewhere expect them, and so is a model's card. */
const PAGES = MARKDOWN.filter(file => dirname(file) !== '.' && basename(file) !== 'MODEL_CARD.md')
const STATUSES = ['draft', 'stable', 'generated']
const TODAY = new Date().toISOString().slice(0, 10)

test.each(PAGES)('%s has a head, a navigation line, a title, and a change log as new as itself', file => {
  const [, head, navigation, title, rest] =
    /^---\n(.+?)\n---\n\n([^\n]+)\n\n# ([^\n]+)\n\n(.+)$/s.exec(readFileSync(file, 'utf8')) ?? []
  const fields = (head ?? '').split('\n').map(line => line.split(/: (.*)/, 2) as [string, string])
  const { status, project, component, updated } = Object.fromEntries(fields)
  expect(fields.map(([name]) => name)).toEqual(['status', 'project', 'component', 'updated'])
  expect(STATUSES).toContain(status)
  expect(project).toBe('hailo-inference')
  expect(component).toMatch(/^[a-z][a-z0-9-]*$/)
  expect(updated).toMatch(/^\d{4}-\d\d-\d\d$/)
  expect(updated! <= TODAY, `${updated} is in the future`).toBe(true)

  const to = (page: string) => relative(dirname(file), page)
  const begin = `[hailo-inference](${to('README.md')}) · [Documentation](${to('docs/README.md')}) · **`
  expect(navigation!.slice(0, begin.length)).toBe(begin)
  expect(navigation!.slice(begin.length)).toMatch(/^[^*\n]+\*\*$/)
  expect(title).not.toBe('')

  const [, log] = /^## Change log\n\n(.+)$/ms.exec(rest!) ?? []
  const entries = (log ?? '').trimEnd().split(/\n(?! )/)
  expect(entries.filter(entry => !/^- \d{4}-\d\d-\d\d: \S/.test(entry))).toEqual([])
  const dates = entries.map(entry => entry.slice(2, 12))
  expect(dates).toEqual([...new Set(dates)].sort().reverse())
  expect(dates[0]).toBe(updated)
})

test('every link and every anchor leads somewhere', () => {
  const dead = MARKDOWN.flatMap(file =>
    linksIn(file)
      .filter(link => !leadsSomewhere(file, link))
      .map(link => `${file}: ${link}`),
  )
  expect(dead).toEqual([])
})

test('every page of docs/ and of a top-level folder is in the index', () => {
  const linked = linksIn('docs/README.md').map(link => join('docs', link.replace(/#.*/, '')))
  const due = PAGES.filter(file => file.startsWith('docs/') || /^[^/]+\/README\.md$/.test(file))
  expect(due.filter(file => file !== 'docs/README.md' && !linked.includes(file))).toEqual([])
})

test('every top-level folder says what it is for', () => {
  // A README.md in .github would be the front page.
  const silent = FOLDERS.filter(
    folder => !/\/|^\.github$/.test(folder) && !existsSync(join(folder, 'README.md')),
  )
  expect(silent).toEqual([])
})

test('every npm command that a page names is there', () => {
  const { scripts } = JSON.parse(readFileSync('package.json', 'utf8')) as { scripts: object }
  const named = MARKDOWN.flatMap(file =>
    [...readFileSync(file, 'utf8').matchAll(/\bnpm run ([a-z][\w-]*(?::\w+)*)/g)].map(([, name]) => ({
      file,
      name,
    })),
  )
  expect(named.length).toBeGreaterThan(50)
  expect(named.filter(({ name }) => !Object.hasOwn(scripts, name!))).toEqual([])
})

test('every file of ours that a page names is there', () => {
  const named = MARKDOWN.flatMap(file =>
    [...withoutFences(file).matchAll(/`([^`\n]+)`/g)]
      .map(([, path]) => path!)
      .filter(path => looksLikeOurs(path))
      .map(path => ({ file, path })),
  )
  expect(named.length).toBeGreaterThan(150)
  expect(named.filter(({ file, path }) => !isThere(path, dirname(file)))).toEqual([])
})

test('docs/performance.md is what the report makes of the committed results', () => {
  const notes = sectionsOf(readFileSync('docs/performance/notes.md', 'utf8'))
  const made = page(readResults('docs/performance/results.json'), Object.keys(MENU), notes)
  expect(readFileSync('docs/performance.md', 'utf8') === made, 'run: npm run bench -- report').toBe(true)
})

function filesIn(folder: string): string[] {
  return readdirSync(folder, { withFileTypes: true }).flatMap(entry => {
    const path = join(folder, entry.name)
    if ((entry.name.startsWith('.') && entry.name !== '.github') || NOT_OURS.includes(path)) return []
    return entry.isDirectory() ? filesIn(path) : [path]
  })
}

function foldersOf(file: string): string[] {
  const folder = dirname(file)
  return folder === '.' ? [] : [folder, ...foldersOf(folder)]
}

function withoutFences(file: string): string {
  return readFileSync(file, 'utf8').replace(/^```.*?^```$/gms, '')
}

/** Those within the project, as they are written. */
function linksIn(file: string): string[] {
  const prose = withoutFences(file).replace(/`[^`\n]+`/g, '')
  const links = [...prose.matchAll(/\]\(([^)\s]+)\)/g)].map(([, link]) => link!)
  return links.filter(link => !/^[a-z]+:/.test(link))
}

function leadsSomewhere(file: string, link: string): boolean {
  const [path, anchor] = link.split('#', 2)
  const target = path === '' ? file : join(dirname(file), path!)
  if (!existsSync(target)) return false
  return anchor === undefined || anchorsOf(target).has(anchor)
}

/** As GitHub names them. */
function anchorsOf(file: string): Set<string> {
  const titles = [...withoutFences(file).matchAll(/^#+ (.+)$/gm)].map(([, title]) => title!)
  const slugs = titles.map(title =>
    title
      .toLowerCase()
      .replace(/[^\p{L}\p{N}_ -]/gu, '')
      .replaceAll(' ', '-'),
  )
  return new Set(slugs)
}

function looksLikeOurs(path: string): boolean {
  if (!/^[\w@-][\w@.-]*(\/[\w@.-]+)*\/?$/.test(path)) return false
  const [first] = path.split('/')
  return /\.(ts|cc|h|md|json|ya?ml|sh|py|cjs|tsv|svg)$/.test(path) || FOLDERS.includes(first!)
}

/** Named from the folder of its page, from that of the project, or by its last parts. */
function isThere(path: string, folder: string): boolean {
  if (NOT_OURS.some(made => path.startsWith(made)) || MADE.includes(path)) return true
  const plain = path.replace(/\/$/, '')
  if (existsSync(join(folder, plain)) || existsSync(plain)) return true
  return [...FILES, ...FOLDERS].some(each => each.endsWith(`/${plain}`))
}
