import { byId } from './elements.ts'

const KEPT_AS = 'hailo-api-key'

/** Null before anybody has given one. */
export function apiKey(): string | null {
  return sessionStorage.getItem(KEPT_AS)
}

/** @param given called when there is a new key to try */
export function watchKey(given: () => void): void {
  byId('key-form', HTMLFormElement).addEventListener('submit', event => {
    event.preventDefault()
    const input = byId('key-input', HTMLInputElement)
    sessionStorage.setItem(KEPT_AS, input.value.trim())
    input.value = ''
    given()
  })
}

export function askForKey(): void {
  const section = byId('key', HTMLElement)
  if (section.hidden) {
    section.hidden = false
    byId('key-input', HTMLInputElement).focus()
  }
}

export function keyAccepted(): void {
  byId('key', HTMLElement).hidden = true
}
