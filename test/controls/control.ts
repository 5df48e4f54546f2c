/** One protection, and how it is switched off to see that its test would miss it. */
export interface Control {
  readonly name: string
  /** Of the project, in TypeScript. */
  readonly file: string
  /** Occurs once in the file. */
  readonly find: string
  /** What stands there without the protection. */
  readonly replace: string
  /** That must fail then. */
  readonly test: {
    readonly file: string
    /** As it is written in the file: of `test.each` a row's own words do too. */
    readonly title: string
  }
}

/** Finds a test by the words in its source: what they leave open, as %s does, may be anything. */
export function patternOf(title: string): string {
  const literal = title.replace(/[.*+?^${}()|[\]\\/]/g, '\\$&')
  return literal.replace(/%[sdijo]|\\\$\w+/g, '.+')
}
