import type { Variable } from '../src/config/example.ts'

/** `${NAME}` and its forms with an operand, unless the dollar sign is doubled, which makes it text. */
const USE = /(?<!\$)(?:\$\$)*\$\{(\w+)(?:(:?[-?+])((?:[^{}]|\{[^{}]*\})*))?\}/g
const COMMENT = /^\s*#\s?(.*)$/
const BEHIND = /\s#\s+(.*)$/

/**
 * The variables that Compose files take from `.env`, in the order of their first use. There a comment says what each
 * is: behind it or, where there are several in a line, in as many lines above as there are new ones, in their order.
 * @param files text by name
 * @param isElsewhere names that are explained in another place
 * @throws Error when one has no such comment
 */
export function composeVariables(
  files: Readonly<Record<string, string>>,
  isElsewhere: (name: string) => boolean,
): Variable[] {
  const variables = new Map<string, Variable>()
  for (const [file, text] of Object.entries(files)) {
    const lines = text.split('\n')
    lines.forEach((line, index) => {
      if (COMMENT.test(line)) return
      const uses = usesIn(line.replace(BEHIND, ''))
      const names = [...uses.keys()].filter(name => !isElsewhere(name) && !variables.has(name))
      const behind = BEHIND.exec(line)?.[1]
      names.forEach((name, nth) => {
        const above = lines[index - names.length + nth] ?? ''
        const what = behind ?? COMMENT.exec(above)?.[1]
        if (what === undefined) {
          throw new Error(`${file}, line ${index + 1}: no comment says what \${${name}} is`)
        }
        variables.set(name, { name, what, default: uses.get(name)! })
      })
    })
  }
  return [...variables.values()]
}

/** Names with their defaults. One that is made of other variables is none, and those are used too. */
function usesIn(code: string): Map<string, string> {
  const uses = new Map<string, string>()
  for (const [, name, operator = '', operand = ''] of code.matchAll(USE)) {
    const isDefault = operator.endsWith('-') && !operand.includes('${')
    if (!uses.has(name!)) uses.set(name!, isDefault ? operand : '')
    for (const [inner, value] of usesIn(operand)) if (!uses.has(inner)) uses.set(inner, value)
  }
  return uses
}
