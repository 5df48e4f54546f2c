import { byId } from './elements.ts'
import { keep, recall } from './kept.ts'

/** Colours of the page, as page.css has them under `--name`. */
export type Ink = 'quiet' | 'accent' | 'second' | 'bad' | 'grid'

const KEPT_AS = 'hailo-scheme'

export function ink(name: Ink): string {
  return getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim()
}

/** Light, dark, or as the system has it. @param changed called when everything has to be drawn anew */
export function watchScheme(changed: () => void): void {
  const select = byId('scheme', HTMLSelectElement)
  const apply = () => {
    if (select.value === '') document.documentElement.removeAttribute('data-scheme')
    else document.documentElement.setAttribute('data-scheme', select.value)
  }
  select.value = recall('localStorage', KEPT_AS) ?? ''
  apply()
  select.addEventListener('change', () => {
    keep('localStorage', KEPT_AS, select.value)
    apply()
    changed()
  })
  matchMedia('(prefers-color-scheme: dark)').addEventListener('change', changed)
}
