import { readFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { z } from 'zod'
import { factsOf, SYNONYMS } from './keys.ts'

const require = createRequire(import.meta.url)

/** By the names of keys: what is set, text or lists of text as long as nobody has checked it. */
export type Values = Record<string, unknown>

/** What is set in the environment and, below it, in the file at CONFIG_PATH. */
export function gather(env: Record<string, string | undefined>, problems: string[]): Values {
  const fromEnv = whatIsSet(env)
  const { CONFIG_PATH } = fromEnv
  const fromFile = typeof CONFIG_PATH === 'string' ? readYaml(CONFIG_PATH, problems) : {}
  // Any synonym in the environment beats all in the file.
  for (const synonyms of SYNONYMS) {
    if (synonyms.some(name => name in fromEnv)) for (const name of synonyms) delete fromFile[name]
  }
  return { ...fromFile, ...fromEnv }
}

function readYaml(path: string, problems: string[]): Values {
  const refuse = (found: string) => {
    problems.push(`CONFIG_PATH: ${path} ${found}`)
    return {}
  }
  // Loaded only for a file: most starts have none.
  const { parseDocument } = require('yaml') as typeof import('yaml')
  try {
    // Scalars stay the text they are: a version 1.10 is not the number 1.1.
    const document = parseDocument(readFileSync(path, 'utf8'), { schema: 'failsafe', customTags: ['null'] })
    const [error] = document.errors
    // An error's own message may quote a secret.
    if (error) return refuse(`is not YAML: ${error.code} in line ${error.linePos?.[0].line}`)
    const content = z.record(z.string(), z.unknown()).safeParse(document.toJS() ?? {})
    if (!content.success) return refuse('is not a mapping of keys to values')
    for (const key of Object.keys(content.data)) {
      if (!factsOf(key) || key === 'CONFIG_PATH') problems.push(`${key}: is not a key that ${path} can set`)
    }
    return whatIsSet(content.data)
  } catch (error) {
    return refuse(
      `cannot be read: ${(error as NodeJS.ErrnoException).code ?? 'an alias in it leads nowhere'}`,
    )
  }
}

function whatIsSet(values: Record<string, unknown>): Values {
  const entries = Object.entries(values)
  return Object.fromEntries(entries.filter(([name, value]) => factsOf(name) && (value ?? '') !== ''))
}
