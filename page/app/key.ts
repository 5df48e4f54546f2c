import { byId } from './elements.ts'
import { keep, recall } from './kept.ts'

const KEPT_AS = 'hailo-api-key'
/** What a browser puts into a header as it is. */
const SENDABLE = /^[ -~]+$/

let key = recall('sessionStorage', KEPT_AS)

/** Null before anybody has given one. */
export function apiKey(): string | null {
  return key
}

/** @param given called when there is a new key to try */
export function watchKey(given: () => void): void {
  byId('key-form', HTMLFormElement).addEventListener('submit', event => {
    event.preventDefault()
    const input = byId('key-input', HTMLInputElement)
    const text = input.value.trim()
    input.setCustomValidity(SENDABLE.test(text) ? '' : 'A browser sends keys of ASCII characters only')
    if (!input.reportValidity()) return
    key = text
    input.value = ''
    keep('sessionStorage', KEPT_AS, key)
    given()
  })
}

export function askForKey(): void {
  const section = byId('key', HTMLElement)
  if (!section.hidden) return
  section.hidden = false
  byId('key-input', HTMLInputElement).focus()
}

export function keyAccepted(): void {
  const section = byId('key', HTMLElement)
  if (section.hidden) return
  const hadFocus = section.contains(document.activeElement)
  section.hidden = true
  // What had it is gone: it goes to where what was asked for begins.
  if (hadFocus) byId('motifs-title', HTMLElement).focus()
}
