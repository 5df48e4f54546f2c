import { Charts } from './charts.ts'
import { Feed } from './feed.ts'
import { History, Latencies } from './history.ts'
import { apiKey, askForKey, keyAccepted, watchKey } from './key.ts'
import { drawLegend } from './motifs.ts'
import { watchScheme } from './scheme.ts'
import { Timeline } from './timeline.ts'
import { TryIt } from './try-it.ts'
import { stateOf, writeFigures, writeState, writeSummaries, writeTables } from './words.ts'

const history = new History()
const timeline = new Timeline()
const charts = new Charts()
const tryIt = new TryIt()
let drawing = false
let legend = ''

watchScheme(() => {
  charts.discard()
  drawSoon()
})
const feed = new Feed({
  lastTick: () => history.lastTick,
  told(answer) {
    const state = stateOf(answer) // first: it throws where this is no answer of ours
    keyAccepted()
    history.add(answer)
    tryIt.offer(answer.provenance.motif_labels)
    writeState(...state)
    drawSoon()
  },
  lost: why => writeState('lost', `Lost: ${why}. Trying again; what is shown below is old.`),
  refused() {
    writeState(
      'not ready',
      apiKey() === null ? 'Waiting for an API key' : 'The server does not take this API key',
    )
    askForKey()
  },
})
watchKey(() => feed.ask())
addEventListener('resize', drawSoon)

/** At most once per frame, and not at all while nobody looks: a browser then has no frames. */
function drawSoon(): void {
  if (drawing) return
  drawing = true
  requestAnimationFrame(() => {
    drawing = false
    draw()
  })
}

function draw(): void {
  const { latest, ticks } = history
  if (latest === null) return
  const { latency_edges_ms: edgesMs, cell_ms, provenance } = latest
  const labels = provenance.motif_labels
  if (legend !== labels.join()) {
    legend = labels.join()
    drawLegend(labels)
  }
  const latencies = new Latencies(ticks, edgesMs)
  writeFigures(ticks, edgesMs)
  writeSummaries(ticks, latencies, latest)
  writeTables(latest)
  timeline.draw(ticks, labels, cell_ms)
  charts.draw(ticks, latencies, edgesMs)
  tryIt.draw()
}
