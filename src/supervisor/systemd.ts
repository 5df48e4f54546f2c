import { type ChildProcess, spawn } from 'node:child_process'

/** One process for each word, but none of ours: to fork this one, which is large by then, takes 20 ms of its main thread. */
const HELPER = `
trap '' HUP INT TERM # what is for the service goes to every process of it
command -v systemd-notify > /dev/null || exit 127
while IFS= read -r word; do systemd-notify "$word"; done`
const NO_SYSTEMD_NOTIFY = 127
const ANOTHER_AFTER_MS = 1000

/** Tells systemd how this process does, by what sd_notify(3) has. */
export class Systemd {
  /** It wants a sign of life at least so often. Null: it does not watch. */
  readonly watchdogMs: number | null
  readonly #env: NodeJS.ProcessEnv
  #helper: ChildProcess
  #status: string | null = null
  #state: 'READY=1' | 'RELOADING=1' | 'STOPPING=1' | null = null

  private constructor({ NOTIFY_SOCKET, WATCHDOG_USEC, PATH }: NodeJS.ProcessEnv) {
    this.watchdogMs = Number(WATCHDOG_USEC) > 0 ? Number(WATCHDOG_USEC) / 1000 : null
    this.#env = { NOTIFY_SOCKET, PATH }
    this.#helper = this.#startHelper()
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
    this.#enter('READY=1')
  }

  /** It reads its files again, until it is ready(). */
  reloading(): void {
    this.#enter('RELOADING=1')
  }

  /** From here on it hears of nothing else but that the process is alive. */
  stopping(): void {
    this.status('draining')
    this.#enter('STOPPING=1')
  }

  alive(): void {
    this.#tell('WATCHDOG=1')
  }

  /** @param words for people, one line of `systemctl status` */
  status(words: string): void {
    if (this.#state === 'STOPPING=1') return
    this.#status = `STATUS=${words.replaceAll(/\s+/g, ' ')}`
    this.#tell(this.#status)
  }

  #enter(state: 'READY=1' | 'RELOADING=1' | 'STOPPING=1'): void {
    if (this.#state === 'STOPPING=1') return
    this.#state = state
    this.#tell(state)
  }

  #tell(word: string): void {
    this.#helper.stdin?.write(`${word}\n`)
  }

  #startHelper(): ChildProcess {
    const helper = spawn('/bin/sh', ['-c', HELPER], { env: this.#env, stdio: ['pipe', 'ignore', 'inherit'] })
    helper.unref()
    helper.stdin?.on('error', () => {}) // it ended, or was never there for want of file descriptors
    helper.once('error', error => this.#startAnother(`cannot be started: ${error.message}`))
    helper.once('exit', (code, signal) => {
      if (code !== NO_SYSTEMD_NOTIFY) this.#startAnother(`ended with ${signal ?? code}`)
      else process.stderr.write('systemd is told nothing: there is no systemd-notify\n')
    })
    return helper
  }

  /** What was told meanwhile is told again. */
  #startAnother(why: string): void {
    process.stderr.write(`What tells systemd ${why}; another is started\n`)
    setTimeout(() => {
      this.#helper = this.#startHelper()
      for (const word of [this.#status, this.#state]) if (word !== null) this.#tell(word)
      if (this.watchdogMs !== null) this.alive()
    }, ANOTHER_AFTER_MS).unref()
  }
}
