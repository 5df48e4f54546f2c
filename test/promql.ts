export interface Selector {
  /** Of the series. */
  readonly name: string
  readonly matchers: readonly Matcher[]
}

export interface Matcher {
  readonly label: string
  readonly operator: '=' | '!=' | '=~' | '!~'
  readonly value: string
}

/** Words that stand where a name could. */
const OPERATORS = new Set(['and', 'or', 'unless', 'bool'])

/** What an expression in PromQL reads, as far as our rules go: each selector has a name, strings stand in matchers alone. */
export function selectorsOf(expression: string): Selector[] {
  const withoutLabels = expression
    .replace(/\b(by|without|on|ignoring|group_left|group_right)\s*\([^)]*\)/g, ' ')
    .replace(/\[[^\]]*\]/g, ' ')
    .replace(/\boffset\s+\w+/g, ' ')
  // What a parenthesis follows is a function.
  return [...withoutLabels.matchAll(/\b([a-z_][\w:]*)\b(?!\s*\()\s*(?:\{([^}]*)\})?/gi)]
    .filter(([, name]) => !OPERATORS.has(name!))
    .map(([, name, matchers = '']) => ({ name: name!, matchers: matchersOf(matchers) }))
}

/** @param text what stands between the braces */
export function matchersOf(text: string): Matcher[] {
  return [...text.matchAll(/(\w+)(=~|!~|!=|=)"((?:[^"\\]|\\.)*)"/g)].map(([, label, operator, value]) => ({
    label: label!,
    operator: operator as Matcher['operator'],
    value: value!,
  }))
}
