import { clear } from './canvas.ts'
import { byId, write } from './elements.ts'
import { apiKey } from './key.ts'
import { drawPiece, motifInWords } from './motifs.ts'
import { loadRecording, type Recording, Replay, type Replayed } from './replay.ts'

/** Windows side by side in the strips. */
const STRIP_WINDOWS = 40
const ROUND_TRIPS = 50
/** At the slowest speed answers come each half second. */
const SILENT_MS = 2000
const LOOK_MS = 500

/** The panel that plays a recording to this server from the browser. */
export class TryIt {
  readonly #button = byId('try-button', HTMLButtonElement)
  readonly #speed = byId('try-speed', HTMLSelectElement)
  #recording: Recording | null = null
  #replay: Replay | null = null
  #labels: readonly string[] = []
  #answers: Replayed[] = []
  #answered = 0
  #right = 0
  /** How the windows without a result ended. */
  readonly #failures = new Map<string, number>()
  #drawing = false
  #loading = false
  /** When the server last said something about a window. */
  #heardMs = 0
  #timer: ReturnType<typeof setInterval> | undefined

  constructor() {
    this.#button.addEventListener('click', () => (this.#replay === null ? this.#start() : this.#stop()))
    this.#speed.addEventListener('change', () => {
      if (this.#replay !== null) this.#restart()
    })
  }

  /** Shows the panel. @param labels of the motifs that the model knows */
  offer(labels: readonly string[]): void {
    this.#labels = labels
    byId('try', HTMLElement).hidden = false
  }

  draw(): void {
    this.#drawing = false
    if (document.hidden || this.#recording === null) return
    const failed = [...this.#failures].map(([error, windows]) => `, ${windows} ${error}`).join('')
    write('try-count', `${this.#right} of ${this.#answered}${failed}`)
    const last = this.#answers.at(-1)
    if (last === undefined) return
    const { motifs } = this.#recording
    write('try-predicted', motifInWords(motifs, last.predicted))
    write('try-true', motifInWords(motifs, last.truth))
    write('try-accuracy', (this.#right / this.#answered).toFixed(3))
    const trips = this.#answers.map(({ roundTripMs }) => roundTripMs).toSorted((a, b) => a - b)
    write('try-round-trip', trips[Math.floor(trips.length / 2)]!.toFixed(1))
    this.#drawStrip('try-strip-true', ({ truth }) => truth)
    this.#drawStrip('try-strip-predicted', ({ predicted }) => predicted)
  }

  async #start(): Promise<void> {
    if (this.#loading) return
    this.#loading = true
    try {
      this.#recording ??= await loadRecording()
    } catch {
      return write('try-state', 'The recording cannot be loaded: the server cannot be reached.')
    } finally {
      this.#loading = false
    }
    if (this.#recording === null) return write('try-state', 'The recording is not there on this server.')
    this.#answers = []
    this.#answered = this.#right = 0
    this.#failures.clear()
    for (const id of ['try-predicted', 'try-true', 'try-accuracy', 'try-round-trip']) write(id, '–')
    this.#restart()
  }

  /** Begins to play, with what was counted so far. */
  #restart(): void {
    this.#replay?.stop()
    try {
      this.#replay = this.#play(this.#recording!)
    } catch (error) {
      // A key that a browser cannot send over a WebSocket.
      return write('try-state', error instanceof Error ? error.message : String(error))
    }
    byId('try-results', HTMLElement).hidden = false
    write('try-button', 'Stop the replay')
    this.#heardMs = performance.now()
    clearInterval(this.#timer)
    this.#timer = setInterval(() => this.#writeState(), LOOK_MS)
    this.#writeState()
    this.draw()
  }

  #writeState(): void {
    if (performance.now() - this.#heardMs > SILENT_MS) {
      return write('try-state', 'Waiting for the server: nothing has come back for two seconds.')
    }
    const known = this.#labels.join() === this.#recording!.motifs.join()
    const note = known ? '' : ' The model has other motifs than the recording: the accuracy says nothing.'
    write('try-state', `Replaying at ${this.#speed.value}×.${note}`)
  }

  #play(recording: Recording): Replay {
    const replay = new Replay(recording, {
      speed: Number(this.#speed.value),
      apiKey: apiKey(),
      onAnswer: answer => this.#take(answer),
      onFailure: ({ error }) => {
        this.#failures.set(error, (this.#failures.get(error) ?? 0) + 1)
        this.#heard()
      },
      onEnd: why => {
        if (this.#replay === replay) this.#ended(why)
      },
    })
    return replay
  }

  #stop(): void {
    this.#replay?.stop()
  }

  #ended(why: string | null): void {
    this.#replay = null
    clearInterval(this.#timer)
    write('try-button', 'Start the replay')
    write('try-state', why === null ? 'Stopped.' : `Ended: ${why}`)
  }

  #take(answer: Replayed): void {
    this.#answered++
    if (answer.predicted === answer.truth) this.#right++
    this.#answers.push(answer)
    if (this.#answers.length > ROUND_TRIPS) this.#answers.shift()
    this.#heard()
  }

  #heard(): void {
    this.#heardMs = performance.now()
    if (this.#drawing) return
    this.#drawing = true
    requestAnimationFrame(() => this.draw())
  }

  /** The newest window on the right, each in its place: what is below each other is of one window. */
  #drawStrip(id: string, motifOf: (answer: Replayed) => number): void {
    const canvas = byId(id, HTMLCanvasElement)
    const context = clear(canvas)
    const shown = this.#answers.slice(-STRIP_WINDOWS)
    const width = canvas.clientWidth / STRIP_WINDOWS
    for (const [index, answer] of shown.entries()) {
      const from = canvas.clientWidth - (shown.length - index) * width
      drawPiece(context, { motif: motifOf(answer), from, to: from + width - 1 }, canvas.clientHeight)
    }
  }
}
