import { closeSync, fsyncSync, openSync, renameSync, rmSync, symlinkSync } from 'node:fs'
import { join } from 'node:path'
import { ArtifactError, CURRENT, servedVersion, versionsIn } from './current.ts'
import { readHistory, remember, versionBefore } from './history.ts'
import { verify } from './verify.ts'

/** What was served and what is from now on. They are the same where nothing had to be done. */
export interface Promotion {
  readonly from: string | null
  readonly to: string
  /** What some servers will not take about it. */
  readonly warnings: readonly string[]
}

/**
 * Verifies a version and lets the link lead to it, at once for who follows it.
 * @param modelNamed see verify()
 * @throws ArtifactError when the version is not good or the folder cannot be written to; then nothing has changed
 */
export function promote(folder: string, version: string, modelNamed = false): Promise<Promotion> {
  return change(folder, version, { by: 'promote', modelNamed })
}

/**
 * The same with the version that was served before the current one.
 * @throws ArtifactError as promote(), and when none is known
 */
export function rollback(folder: string, modelNamed = false): Promise<Promotion> {
  const current = servedVersion(folder)
  const version = versionBefore(current, readHistory(folder))
  if (version === null) {
    throw new ArtifactError(
      `Cannot roll back: nothing is known to have been served before ${current ?? 'now'}. Promote a version instead`,
    )
  }
  return change(folder, version, { by: 'rollback', modelNamed })
}

async function change(
  folder: string,
  version: string,
  { by, modelNamed }: { by: 'promote' | 'rollback'; modelNamed: boolean },
): Promise<Promotion> {
  const refused = `Cannot ${by === 'promote' ? 'promote' : 'roll back to'} ${version}, nothing has changed:`
  const { problems, warnings } = await verify(folder, version, modelNamed)
  if (problems.length > 0) {
    throw new ArtifactError(`${refused}\n${problems.join('\n')}`)
  }
  const from = servedVersion(folder) ?? onlyOlder(folder, version)
  try {
    if (from !== version) remember(folder, { by, from, to: version })
    switchLink(folder, version)
  } catch (cause) {
    const { code, syscall } = cause as NodeJS.ErrnoException
    if (syscall === undefined) throw cause
    throw new ArtifactError(
      `${refused} ${folder} cannot be written to (${code} at ${syscall}). Run it as its owner, on a file system that is not mounted read-only`,
    )
  }
  return { from, to: version, warnings }
}

/** What was served without a link until `version` came to lie beside it. A newer one has never been. */
function onlyOlder(folder: string, version: string): string | null {
  const [older, newest, ...others] = versionsIn(folder)
  return newest === version && others.length === 0 ? older! : null
}

/** Whoever reads the link at any moment gets the old version or the new one, also when this process is killed. */
function switchLink(folder: string, version: string): void {
  const next = join(folder, `.${CURRENT}.${process.pid}`)
  rmSync(next, { force: true }) // of an earlier process with this id that was killed right here
  symlinkSync(version, next)
  try {
    renameSync(next, join(folder, CURRENT))
  } catch (error) {
    rmSync(next, { force: true })
    throw error
  }
  const file = openSync(folder, 'r')
  try {
    fsyncSync(file) // or a power cut may take the change back
  } finally {
    closeSync(file)
  }
}
