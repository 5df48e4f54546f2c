import { byId } from './elements.ts'

/** Colours of the page, as page.css has them under `--name`. */
export type Ink = 'ink' | 'quiet' | 'accent' | 'second' | 'bad' | 'grid' | 'line' | 'panel'

const KEPT_AS = 'hailo-scheme'

export function ink(name: Ink): string {
  return getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim()
}

/** Light, dark, or as the system has it. @param changed called when everything has to be drawn anew */
export function watchScheme(changed: () => void): void {
  const select = byId('scheme', HTMLSelectElement)
  const apply = () => {
    if (select.value === '') delete document.documentElement.dataset['scheme']
    else document.documentElement.dataset['scheme'] = select.value
  }
  select.value = kept()
  apply()
  select.addEventListener('change', () => {
    keep(select.value)
    apply()
    changed()
  })
  matchMedia('(prefers-color-scheme: dark)').addEventListener('change', changed)
}

// A browser may forbid a page to keep anything: then it is chosen anew each time.

function kept(): string {
  try {
    return localStorage.getItem(KEPT_AS) ?? ''
  } catch {
    return ''
  }
}

function keep(scheme: string): void {
  try {
    localStorage.setItem(KEPT_AS, scheme)
  } catch {}
}
