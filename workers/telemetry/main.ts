import { setPriority } from 'node:os'
import { setTimeout as sleep } from 'node:timers/promises'
import { parentPort, receiveMessageOnPort, workerData } from 'node:worker_threads'
import { monotonicMs } from '../../src/clock.ts'
import { TelemetryCounters } from '../../src/telemetry/counters.ts'
import { RecordRing, type TelemetryRecord } from '../../src/telemetry/record-ring.ts'
import type { TelemetryFacts, TelemetryNote, TelemetryTask } from '../../src/telemetry/telemetry.ts'
import { Archive } from './archive.ts'
import { LineMaker, type Reading, readingOf } from './lines.ts'
import { Reference } from './reference.ts'
import { Scrutiny } from './scrutiny.ts'

/** How often it is looked for records: what came meanwhile fits into the ring. */
const POLL_INTERVAL_MS = 20
/** Lines that are written at once. */
const LARGEST_BATCH = 256
/** After an error of the disk nothing is tried for so long; meanwhile the ring fills. */
const RETRY_DELAY_MS = 1000
/** Threads have a priority of their own on Linux: lines can wait, answers cannot. */
const NICENESS = 5

/** Writes what the main thread has taken down, until told to stop. */
class Writer {
  readonly #ring: RecordRing
  readonly #counters: TelemetryCounters
  readonly #archive: Archive
  readonly #scrutiny = new Scrutiny()
  /** Of the models whose answers may come, by their generation. */
  readonly #facts = new Map<number, TelemetryFacts>()
  /** Of the model whose answer was read last. */
  #generation = -1
  #lines: LineMaker
  #reference: Reference | null = null
  readonly #motifCount: number
  /** From the monotonic clock to Unix time, ms. */
  #wallOffsetMs = 0
  #failing = false

  constructor(task: TelemetryTask) {
    this.#ring = new RecordRing(task.ring)
    this.#counters = new TelemetryCounters(task.counters)
    this.#archive = new Archive(task.folder, task.budgetBytes, this.#counters)
    for (const facts of task.models) this.#facts.set(facts.generation, facts)
    const [oldest] = task.models
    this.#lines = new LineMaker(oldest!)
    this.#motifCount = oldest!.motifLabels.length
  }

  /** From here on answers are of that model. What was seen of another says nothing of them. */
  #turnTo(generation: number): void {
    if (generation === this.#generation) return
    this.#hear()
    const facts = this.#facts.get(generation)!
    for (const known of this.#facts.keys()) if (known < generation - 1) this.#facts.delete(known)
    this.#generation = generation
    this.#lines = new LineMaker(facts)
    this.#scrutiny.forget(facts.normalisation)
    this.#reference?.close()
    this.#reference =
      facts.reference &&
      new Reference(facts.reference, this.#motifCount, error =>
        tell('warn', { err: String(error) }, 'telemetry cannot compare the device with the float model'),
      )
  }

  /** Which models there are is told before their first answer is in the ring, so nobody has to wait for it. */
  #hear(): void {
    while (true) {
      const told: { message: TelemetryFacts } | undefined = receiveMessageOnPort(parentPort!)
      if (told === undefined) return
      this.#facts.set(told.message.generation, told.message)
    }
  }

  async run(): Promise<void> {
    this.#try(0, () => this.#archive.scan())
    while (true) {
      // Asked before looking: what was put there before the stop is seen after it.
      const stopping = this.#ring.stopping
      while (await this.#writeBatch());
      if (stopping) break
      await this.#rest()
    }
    this.#try(0, () => this.#archive.close())
  }

  /** Until it is worth looking again. A stop is seen soon while the disk fails, too: a drain does not wait for long. */
  async #rest(): Promise<void> {
    this.#hear()
    const untilMs = monotonicMs() + RETRY_DELAY_MS
    do await sleep(POLL_INTERVAL_MS)
    while (this.#failing && !this.#ring.stopping && monotonicMs() < untilMs)
  }

  /** False when there is nothing more to do at the moment. */
  async #writeBatch(): Promise<boolean> {
    this.#wallOffsetMs = Date.now() - monotonicMs()
    const lines: string[] = []
    let count = 0
    try {
      for (; count < LARGEST_BATCH; count++) {
        const record = this.#ring.oldest(this.#motifCount)
        if (record === null) break
        await this.#readAndRelease(record, lines)
      }
    } finally {
      this.#write(lines)
    }
    return count > 0 && (!this.#failing || this.#ring.stopping)
  }

  #write(lines: readonly string[]): void {
    if (lines.length === 0) return
    const written = this.#try(lines.length, () => this.#archive.addLines(lines.join(''), Date.now()))
    if (written) this.#counters.countLines(lines.length)
  }

  async #readAndRelease(record: TelemetryRecord, lines: string[]): Promise<void> {
    try {
      await this.#read(record, lines)
    } catch (error) {
      this.#counters.countDropped('thread_failed')
      throw error
    } finally {
      this.#ring.release() // also one that we cannot read: it would end every thread after this
    }
  }

  async #read(record: TelemetryRecord, lines: string[]): Promise<void> {
    const timeMs = record.answeredMs + this.#wallOffsetMs
    if (record.backend === null) {
      lines.push(textOf(this.#lines.error(record, timeMs)))
      return
    }
    this.#turnTo(record.generation)
    const reading = readingOf(record)
    if (record.forLine) lines.push(textOf(this.#lines.answer(record, reading, timeMs)))
    if (record.forLook) await this.#look(record, reading, timeMs)
  }

  /** Keeps the window if it is worth a label. */
  async #look(record: TelemetryRecord, reading: Reading, timeMs: number): Promise<void> {
    const { input, output, backend, answeredMs } = record
    const reasons = this.#scrutiny.reasonsOf(backend!, input, reading)
    if (backend === 'hailo' && (await this.#reference?.disagrees(input, output, answeredMs))) {
      reasons.push('reference_disagrees')
    }
    if (!this.#scrutiny.mayKeep(reasons, answeredMs)) return
    const answer = this.#lines.answer(record, reading, timeMs)
    const lineOf = (row: number) => textOf(this.#lines.kept(answer, reading, reasons, row))
    const kept = this.#try(1, () => this.#archive.addKept(input, lineOf, Date.now()))
    if (kept) for (const reason of reasons) this.#counters.countKept(reason)
  }

  /** False when the disk did not take it, which is counted. @param count the lines that are lost then */
  #try(count: number, write: () => void): boolean {
    try {
      write()
    } catch (error) {
      const { code, syscall, path } = error as NodeJS.ErrnoException
      if (syscall === undefined) throw error // a bug, and not the disk
      this.#counters.countDropped(FULL.has(code!) ? 'disk_full' : 'disk_error', count)
      if (!this.#failing) tell('warn', { code, syscall, path }, 'telemetry cannot be written')
      this.#failing = true
      return false
    }
    if (this.#failing && count > 0) {
      tell('info', {}, 'telemetry is written again')
      this.#failing = false
    }
    return true
  }
}

/** What the system calls a disk or a quota without room. */
const FULL = new Set(['ENOSPC', 'EDQUOT'])

function textOf(line: object): string {
  return `${JSON.stringify(line)}\n`
}

function tell(level: TelemetryNote['level'], fields: TelemetryNote['fields'], text: string): void {
  parentPort!.postMessage({ level, fields, text } satisfies TelemetryNote)
}

if (process.platform === 'linux') setPriority(NICENESS)
await new Writer(workerData).run()
