/** What is evaluated within the page: text, as the tests are compiled without what browsers have. */

/** Of each visible element with text of its own, that text and its contrast with what is behind it (WCAG 2.2). */
export const CONTRASTS = `(() => {
  const numbers = colour => colour.match(/[\\d.]+/g).map(Number)
  const luminance = colour => {
    const [red, green, blue] = numbers(colour).map(value =>
      value / 255 <= 0.04045 ? value / 255 / 12.92 : ((value / 255 + 0.055) / 1.055) ** 2.4)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue
  }
  const behind = element => {
    for (let at = element; at; at = at.parentElement) {
      const colour = getComputedStyle(at).backgroundColor
      if (numbers(colour)[3] !== 0) return colour
    }
    throw new Error('nothing is behind the page')
  }
  const own = element =>
    [...element.childNodes].filter(node => node.nodeType === 3).map(node => node.data.trim()).join(' ').trim()
  return [...document.body.querySelectorAll('*')]
    .filter(element => own(element) !== '' && element.checkVisibility())
    .map(element => {
      const [light, dark] = [getComputedStyle(element).color, behind(element)].map(luminance).sort((a, b) => b - a)
      return { text: own(element), ratio: (light + 0.05) / (dark + 0.05) }
    })
})()`

/** The visible controls, links, lists, pictures and regions that nothing names. */
export const NAMELESS = `[...document.querySelectorAll('a, button, input, select, ol, ul, [tabindex="0"], [role]:not([role=status])')]
  .filter(element => element.checkVisibility())
  .filter(element => {
    const labels = [...(element.labels ?? [])].map(label => label.textContent)
    const by = element.getAttribute('aria-labelledby')?.split(' ').map(id => document.getElementById(id).textContent)
    const own = element.matches('a, button') ? element.textContent : ''
    return [own, element.ariaLabel, ...labels, ...(by ?? [])].every(name => (name ?? '').trim() === '')
  })
  .map(element => element.outerHTML)`

/** As if somebody went to another tab. */
export const LOOK_AWAY = `(() => {
  Object.defineProperty(document, 'hidden', { get: () => true })
  document.dispatchEvent(new Event('visibilitychange'))
})()`

/** The id of what has the focus. */
export const FOCUSED = 'document.activeElement.id'

/** Whether anything is on a canvas. */
export function isDrawn(selector: string): string {
  return `(() => {
    const canvas = document.querySelector('${selector}')
    const { data } = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height)
    return data.some(value => value !== 0)
  })()`
}

/** When the last timeline has just moved to the left: empties it, and tells whether it then becomes what it was. */
export const LOOKS_AS_DRAWN_ANEW = `(async () => {
  const canvas = document.querySelector('#lanes li:last-child canvas')
  const still = canvas.toDataURL()
  while (canvas.toDataURL() === still) await new Promise(requestAnimationFrame)
  const before = canvas.toDataURL()
  canvas.width = 0
  dispatchEvent(new Event('resize'))
  await new Promise(requestAnimationFrame)
  await new Promise(requestAnimationFrame)
  return canvas.toDataURL() === before
})()`
