import { type ChildProcess, spawn } from 'node:child_process'

/** One process for each word, but none of ours: to fork this one, which is large by then, takes 20 ms of its main thread. */
const HELPER = `
command -v systemd-notify > /dev/null || exit 127
while IFS= read -r word; do systemd-notify "$word"; done`

/** Tells systemd how this process does, by what sd_notify(3) has. */
export class Systemd {
  /** It wants a sign of life at least so often. Null: it does not watch. */
  readonly watchdogMs: number | null
  readonly #helper: ChildProcess

  private constructor({ NOTIFY_SOCKET, WATCHDOG_USEC, PATH }: NodeJS.ProcessEnv) {
    this.watchdogMs = Number(WATCHDOG_USEC) > 0 ? Number(WATCHDOG_USEC) / 1000 : null
    this.#helper = spawn('/bin/sh', ['-c', HELPER], {
      env: { NOTIFY_SOCKET, PATH },
      stdio: ['pipe', 'ignore', 'inherit'],
    })
    this.#helper.unref()
    this.#helper.stdin!.on('error', () => {})
    const failed = (why: unknown) => process.stderr.write(`systemd is told nothing more: ${why}\n`)
    this.#helper.once('error', failed)
    this.#helper.once('exit', (code, signal) =>
      failed(code === 127 ? 'there is no systemd-notify' : `what told it ended with ${signal ?? code}`),
    )
  }

  /**
   * Null where systemd has not started this process, or does not want to be told. What it is told by is taken out of
   * `env`, as nothing that is started from here on may speak for this process.
   */
  static takeFrom(env: NodeJS.ProcessEnv): Systemd | null {
    const { NOTIFY_SOCKET, WATCHDOG_USEC, PATH } = env
    for (const key of ['NOTIFY_SOCKET', 'WATCHDOG_USEC', 'WATCHDOG_PID']) delete env[key]
    return NOTIFY_SOCKET ? new Systemd({ NOTIFY_SOCKET, WATCHDOG_USEC, PATH }) : null
  }

  /** It serves, or has read its files again. */
  ready(): void {
    this.#tell('READY=1')
  }

  /** It reads its files again, until it is ready(). */
  reloading(): void {
    this.#tell('RELOADING=1')
  }

  stopping(): void {
    this.#tell('STOPPING=1')
  }

  alive(): void {
    this.#tell('WATCHDOG=1')
  }

  /** @param words for people, one line of `systemctl status` */
  status(words: string): void {
    this.#tell(`STATUS=${words.replaceAll(/\s+/g, ' ')}`)
  }

  #tell(word: string): void {
    this.#helper.stdin!.write(`${word}\n`)
  }
}
