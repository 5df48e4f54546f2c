import { execFileSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'

/** Files by their path in the project, and their new text. */
export type Edits = Map<string, string>

/** A release that must not be made as things are. */
export class RefusedError extends Error {
  readonly code = 'ERR_REFUSED'
}

/** Where images and packages are named by their version. Other numbers in there are others' versions. */
const PLACES = ['README.md', 'compose', 'docs', 'images', 'kubernetes', 'packaging']

const NUMBERS = /^(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)$/

/**
 * What a new version changes in the project in `folder`, a git work tree, and nothing is written.
 * @param date as 2026-11-22
 * @param changelog the text of its changelog
 * @throws RefusedError
 */
export function editsOf(
  folder: string,
  version: string,
  date: string,
  changelog = readFileSync(join(folder, 'CHANGELOG.md'), 'utf8'),
): Edits {
  const read = (path: string) => readFileSync(join(folder, path), 'utf8')
  const last: string = JSON.parse(read('package.json')).version
  if (!isAbove(version, last)) throw new RefusedError(`${version} is not above ${last}, the last version`)
  const lock = JSON.parse(read('package-lock.json'))
  lock.version = version
  lock.packages[''].version = version
  const edits: Edits = new Map([
    ['package.json', read('package.json').replace(`"version": "${last}"`, `"version": "${version}"`)],
    ['package-lock.json', `${JSON.stringify(lock, null, 2)}\n`],
    ['CHANGELOG.md', datedChangelog(changelog, version, date)],
  ])
  for (const path of filesAt(folder, PLACES)) {
    const text = read(path)
    const edited = text.replace(nameOf(last), `$1${version}`)
    if (edited !== text) edits.set(path, edited)
  }
  return edits
}

/** When the version in the changelog was released: all that is made of one source is dated so, and comes out the same. */
export function releaseDate(changelog: string, version: string): Date | null {
  const [, date] = new RegExp(`^## ${quoted(version)} – (\\S+)$`, 'm').exec(changelog) ?? []
  return date === undefined ? null : new Date(date)
}

function datedChangelog(changelog: string, version: string, date: string): string {
  const [heading] = /^## Unreleased\n(?=\n+- )/m.exec(changelog) ?? []
  if (heading === undefined) throw new RefusedError('CHANGELOG.md has nothing under "## Unreleased"')
  return changelog.replace(heading, `${heading}\n## ${version} – ${date}\n`)
}

/** As in `hailo-inference:X.Y.Z`, `hailo-inference_X.Y.Z-1_amd64.deb`, `${VERSION:-X.Y.Z}` and `newTag: X.Y.Z-device`. */
function nameOf(version: string): RegExp {
  return new RegExp(
    `(hailo-inference(?:-compiler)?[-_:]|\\bVERSION\\b[^\\w\\n]*(?:default = ")?|\\bnewTag: "?)${quoted(version)}(?!\\.?\\d)`,
    'g',
  )
}

function quoted(version: string): string {
  return version.replaceAll('.', '\\.')
}

function filesAt(folder: string, places: readonly string[]): string[] {
  const listed = execFileSync('git', ['ls-files', '-z', '--', ...places], { cwd: folder, encoding: 'utf8' })
  return listed.split('\0').filter(path => /\.(md|ya?ml|hcl|sh|ts|env|example)$|Dockerfile$/.test(path))
}

function isAbove(version: string, last: string): boolean {
  const [ours, theirs] = [version, last].map(text => NUMBERS.exec(text)?.slice(1).map(Number))
  if (ours === undefined) throw new RefusedError(`${version} is no version, as 1.2.3 is one`)
  if (theirs === undefined) throw new RefusedError(`${last} in package.json is no version`)
  const differing = ours.findIndex((number, index) => number !== theirs[index])
  return differing >= 0 && ours[differing]! > theirs[differing]!
}
