/**
 * SIGHUP says that files may have changed. It ends a process that does not listen for it, so `main.ts` loads this first,
 * and what comes before anybody has files to read again is kept.
 */
let early = false
process.on('SIGHUP', () => {
  early = true
})

/** @param listener told at once, too, when a SIGHUP has come before */
export function onHangup(listener: () => void): void {
  process.on('SIGHUP', listener)
  if (early) listener()
}
