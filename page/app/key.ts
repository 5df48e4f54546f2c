import { byId } from './elements.ts'
import { keep, recall } from './kept.ts'

const KEPT_AS = 'hailo-api-key'

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
    key = input.value.trim()
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
  byId('key', HTMLElement).hidden = true
}
