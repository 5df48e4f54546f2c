import { existsSync } from 'node:fs'
import { type Browser, chromium } from 'playwright-core'

/** Where Debian and Raspberry Pi OS put it. */
const EXECUTABLE = '/usr/bin/chromium'

export const HAS_CHROMIUM = existsSync(EXECUTABLE)

/** A headless Chromium with a profile of its own, which goes with it. Whoever launches it closes it. */
export function launchChromium(): Promise<Browser> {
  return chromium.launch({
    executablePath: EXECUTABLE,
    // As root it has no sandbox; a container's /dev/shm is too small for it; nothing it does needs the network.
    args: ['--no-sandbox', '--disable-dev-shm-usage', '--disable-background-networking'],
  })
}
