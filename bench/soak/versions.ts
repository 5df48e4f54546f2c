import { appendFileSync, cpSync, mkdirSync, renameSync, symlinkSync, truncateSync } from 'node:fs'
import { basename, dirname, join } from 'node:path'
import { CURRENT, MANIFEST_NAME } from '../../src/artifacts/current.ts'

const GOOD = ['good-1', 'good-2'] as const
const BAD = 'bad'

/**
 * Two versions of a model that give the same answers, to the byte, so that those of a soak can be compared; one whose
 * model is cut short; and a link to the one that is served.
 */
export class Versions {
  /** Of the model, through the link. */
  readonly path: string
  readonly #folder: string
  /** In GOOD, of the one that was last turned to. */
  #good = 0

  /** @param folder to be made @param model whose folder is copied */
  constructor(folder: string, model: string) {
    this.#folder = folder
    this.path = join(folder, CURRENT, basename(model))
    mkdirSync(folder)
    for (const version of [...GOOD, BAD]) {
      cpSync(dirname(model), join(folder, version), { recursive: true })
    }
    // Another manifest, of which nothing is told to clients: /v2 gives them the version with each answer.
    appendFileSync(join(folder, GOOD[1], MANIFEST_NAME), '\n')
    truncateSync(join(folder, BAD, basename(model)), 1000)
    this.turnBack()
  }

  turnToOther(): void {
    this.#good = 1 - this.#good
    this.turnBack()
  }

  turnToBad(): void {
    this.#turn(BAD)
  }

  /** To the last good one. */
  turnBack(): void {
    this.#turn(GOOD[this.#good]!)
  }

  /** As `mv` does: the link is never missing. */
  #turn(version: string): void {
    const next = join(this.#folder, `.${CURRENT}`)
    symlinkSync(version, next)
    renameSync(next, join(this.#folder, CURRENT))
  }
}
