type Kind<Element> = new () => Element

/** The element that index.html has under this id. @throws TypeError when it has none of this kind */
export function byId<Found extends HTMLElement>(id: string, kind: Kind<Found>): Found {
  const element = document.getElementById(id)
  if (element instanceof kind) return element
  throw new TypeError(`the page has no ${kind.name} #${id}`)
}

export function write(id: string, text: string): void {
  writeInto(byId(id, HTMLElement), text)
}

/** Writes only what changes: the rest of the page then needs no new layout. */
export function writeInto(element: Element, text: string): void {
  if (element.textContent !== text) element.textContent = text
}

/** Fills a list of names and values. */
export function writeFacts(id: string, facts: Readonly<Record<string, string>>): void {
  const list = byId(id, HTMLDListElement)
  const values = Object.values(facts)
  if (list.children.length !== values.length * 2) {
    list.replaceChildren(
      ...Object.keys(facts).flatMap(name => [withText('dt', name), document.createElement('dd')]),
    )
  }
  for (const [index, name] of Object.keys(facts).entries()) {
    writeInto(list.children[index * 2]!, name)
    writeInto(list.children[index * 2 + 1]!, values[index]!)
  }
}

export function withText<Name extends keyof HTMLElementTagNameMap>(
  name: Name,
  text: string,
): HTMLElementTagNameMap[Name] {
  const element = document.createElement(name)
  element.textContent = text
  return element
}
