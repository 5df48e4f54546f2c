type Storage = 'localStorage' | 'sessionStorage'

// A browser may forbid a page to keep anything: then it is asked for anew each time.

export function recall(storage: Storage, name: string): string | null {
  try {
    return window[storage].getItem(name)
  } catch {
    return null
  }
}

export function keep(storage: Storage, name: string, value: string): void {
  try {
    window[storage].setItem(name, value)
  } catch {}
}
