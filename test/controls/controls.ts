import type { Control } from './control.ts'

/** Every protection that a test is to hold, and that can be taken away by a few words. */
export const CONTROLS: readonly Control[] = [
  // Supervision.
  {
    name: 'watchdog',
    file: 'src/engine/stream-worker.ts',
    find: 'if (silentMs <= patienceMs) continue',
    replace: 'continue',
    test: { file: 'test/faults.test.ts', title: 'hangs' },
  },
  {
    name: 'worker-restart',
    file: 'src/engine/stream-worker.ts',
    find: 'if (loss === null) return',
    replace: 'return',
    test: { file: 'test/faults.test.ts', title: 'ends its thread' },
  },
  {
    name: 'worker-memory',
    file: 'src/engine/threads.ts',
    find: 'resourceLimits: { maxOldGenerationSizeMb: WORKER_HEAP_MIB },',
    replace: '',
    test: {
      file: 'test/chaos.test.ts',
      title: 'a worker out of memory takes its own windows with it, and nothing else',
    },
  },
  {
    name: 'stuck-thread-exit',
    file: 'src/engine/pool.ts',
    find: 'if (leavingMs > LEAVE_TIMEOUT_MS) this.#threadStuck(leavingMs)',
    replace: '',
    test: {
      file: 'test/supervision.test.ts',
      title:
        'a thread in a native call that never returns ends the process with 75, once what can be is answered',
    },
  },
  {
    name: 'end-without-threads',
    file: 'src/supervisor/end.ts',
    find: "process.once('exit', code => endNow(code))",
    replace: '',
    test: {
      file: 'test/supervision.test.ts',
      title: 'a thread in a native call keeps process.exit() from ending, and waitForNoThread() lets it end',
    },
  },
  {
    name: 'epochs',
    file: 'src/core/ring.ts',
    find: 'return this.epoch !== this.#epoch',
    replace: 'return false',
    test: {
      file: 'test/ring.test.ts',
      title: 'a worker that was given up writes to no cursor and to no word that its successor owns',
    },
  },
  {
    name: 'epochs-in-a-call',
    file: 'workers/loop.ts',
    find: "if (ring.superseded) return 'superseded'\n        if (mayWait) look()",
    replace: 'if (mayWait) look()',
    test: {
      file: 'test/loop.test.ts',
      title: 'serve() that was given up inside a call writes nothing when the call returns',
    },
  },
  {
    name: 'lost-windows-passed',
    file: 'src/core/ring.ts',
    find: 'this.passTaken()\n    // A worker that died',
    replace: '// A worker that died',
    test: {
      file: 'test/ring.test.ts',
      title: 'supersede() leaves a window that the front door dropped as it is, and passes it',
    },
  },
  {
    name: 'event-count',
    file: 'src/core/ring.ts',
    find: 'if (this.completed === seen) {',
    replace: '{',
    test: {
      file: 'test/ring.test.ts',
      title: 'untilBell() misses no window that completes after %d of its steps',
    },
  },
  {
    name: 'supervisor',
    file: 'src/supervisor/supervise.ts',
    find: 'if (FINAL_CODES.includes(end.code)) return end.code!',
    replace: 'return codeOf(end)',
    test: {
      file: 'test/supervision.test.ts',
      title: 'with a supervisor, another engine listens within a second after a kill -9',
    },
  },
  {
    name: 'life-record',
    file: 'src/supervisor/life-record.ts',
    find: 'this.#write(null)',
    replace: '',
    test: {
      file: 'test/supervision.test.ts',
      title:
        'a record tells how the process before ended, whatever it finds, and counts the starts of an hour',
    },
  },
  {
    name: 'state-disk',
    file: 'src/supervisor/life-record.ts',
    find: 'this.#failed(error)',
    replace: 'throw error',
    test: {
      file: 'test/chaos.test.ts',
      title: 'a state folder $where costs the record of the last end, and nothing else',
    },
  },

  // Deadlines and load.
  {
    name: 'deadline-expiry',
    file: 'src/engine/stream.ts',
    find: 'if (inFlight.deadlineMs > nowMs) nearestMs',
    replace: 'if (inFlight.deadlineMs > 0) nearestMs',
    test: {
      file: 'test/deadline.test.ts',
      title: 'a window that waits past its deadline is answered 504 then, and never given to the model',
    },
  },
  {
    name: 'expired-windows-passed-over',
    file: 'src/core/slot.ts',
    find: 'const expired = nowMs > this.deadlineMs',
    replace: 'const expired = false',
    test: {
      file: 'test/ring.test.ts',
      title: 'take() passes over an expired window, but not one that expires at this very moment',
    },
  },
  {
    name: 'cancelled-windows-passed-over',
    file: 'src/http/infer.ts',
    find: 'this.#inFlight?.cancel()',
    replace: '',
    test: {
      file: 'test/deadline.test.ts',
      title: 'a client that goes while its window waits costs no time of the model',
    },
  },
  {
    name: 'admission',
    file: 'src/core/admission.ts',
    find: 'return load.ahead > 0 && lateMs > 0 ?',
    replace: 'return load.ahead < 0 ?',
    test: {
      file: 'test/chaos-overload.test.ts',
      title: 'ten times the load that it can bear leaves goodput, and few are admitted in vain',
    },
  },
  {
    name: 'predicted-wait',
    file: 'src/core/admission.ts',
    find: 'return load.overheadMs + (load.ahead + 1) * load.serviceMs + load.stalledMs',
    replace: 'return (load.overheadMs + (load.ahead + 1) * load.serviceMs + load.stalledMs) / 1.3',
    test: {
      file: 'test/chaos-overload.test.ts',
      title: 'ten times the load that it can bear leaves goodput, and few are admitted in vain',
    },
  },
  {
    name: 'ring-full',
    file: 'src/core/admission.ts',
    find: 'if (load.inFlight >= load.capacity) {',
    replace: 'if (load.inFlight < 0) {',
    test: { file: 'test/admission.test.ts', title: 'always comes from a full ring, with a time to wait' },
  },
  {
    name: 'bulk-share',
    file: 'src/core/admission.ts',
    find: 'beside: 1 / 4,',
    replace: 'beside: 1,',
    test: {
      file: 'test/admission.test.ts',
      title: 'leaves three quarters of the slots to live windows beside live traffic',
    },
  },
  {
    name: 'uploads-at-once',
    file: 'src/http/infer.ts',
    find: 'if (uploads.size >= MAX_UPLOADS ||',
    replace: 'if (uploads.size < 0 ||',
    test: {
      file: 'test/bulk.test.ts',
      title: 'so many uploads at once, and no more: the next is told when to come back',
    },
  },

  {
    name: 'hysteresis',
    file: 'src/core/degradation.ts',
    find: 'else if (isReached(stay, pressure)) this.#calmSinceMs = nowMs\n    else',
    replace: 'else',
    test: {
      file: 'test/degradation.test.ts',
      title: 'a load between the two thresholds keeps the level for ever, and calls for none',
    },
  },
  {
    name: 'bulk-at-shed',
    file: 'src/engine/engine.ts',
    find: 'if (this.level < LEVEL.shed) return null',
    replace: 'if (this.level >= 0) return null',
    test: {
      file: 'test/overload-levels.test.ts',
      title:
        'under a rising load telemetry gives way first, then what overlaps and bulk, and live windows never; a square wave changes nothing, and calm brings all of it back',
    },
  },
  {
    name: 'thinning',
    file: 'src/http/thinning.ts',
    find: 'return ((this.#startOf(sequence) - this.#end) | 0) < 0',
    replace: 'return false',
    test: {
      file: 'test/thinning.test.ts',
      title: 'Thinning lets windows pass that do not overlap, from the first on',
    },
  },

  // The model and what it answers.
  {
    name: 'model-checksum',
    file: 'src/model.ts',
    find: 'if (sha256 === listed.sha256) return sha256',
    replace: 'if (sha256 !== "") return sha256',
    test: {
      file: 'test/model.test.ts',
      title: 'loadModel() refuses a model with one bit flipped, with both hashes',
    },
  },
  {
    name: 'hef-kept-in-memory',
    file: 'workers/backends/hailo.ts',
    find: '...model,\n      motifCount,',
    replace:
      "...model,\n      hef: process.getBuiltinModule('node:fs').readFileSync(process.env['HEF_PATH']!),\n      motifCount,",
    test: {
      file: 'test/chaos.test.ts',
      title: 'a HEF that is corrupted on disk is read no second time while it serves',
    },
  },
  {
    name: 'canary',
    file: 'src/engine/canary.ts',
    find: "if (check.result === 'failed') ring.condemn(check.backend!)",
    replace: '',
    test: {
      file: 'test/canary.test.ts',
      title:
        'a FALLBACK takes over from a device that gives no numbers any more, and is checked by its own limits',
    },
  },
  {
    name: 'self-check',
    file: 'workers/serve.ts',
    find: 'const fault = golden !== null ?',
    replace: 'const fault = golden === undefined ?',
    test: {
      file: 'test/fallback.test.ts',
      title: 'a fallback at the start is checked by its own limits, the device by its own when it comes',
    },
  },
  {
    name: 'finite-results',
    file: 'workers/loop.ts',
    find: "ended === 'ok' && !areFinite(output) ?",
    replace: "ended === 'shed' ?",
    test: {
      file: 'test/loop.test.ts',
      title: 'serve() gives out no result that is not finite, and keeps the stream for the others',
    },
  },
  {
    name: 'device-tried-again',
    file: 'workers/serve.ts',
    find: 'while (!over.aborted) {',
    replace: 'while (false) {',
    test: {
      file: 'test/fallback.test.ts',
      title:
        'FALLBACK=onnx answers while the device is lost, every answer says so, and the device takes over again',
    },
  },

  // Another model while one serves.
  {
    name: 'reload-verification',
    file: 'src/engine/stream-worker.ts',
    find: 'started: this.#started || successor,',
    replace: 'started: this.#started && !successor,',
    test: {
      file: 'test/replace-model.test.ts',
      title: 'a model that cannot take over in every stream changes nothing, and it is told why',
    },
  },
  {
    name: 'link-seen-twice',
    file: 'src/reload/link-watch.ts',
    find: 'this.#seen !== null && this.#seen === before',
    replace: 'this.#seen !== null',
    test: {
      file: 'test/reload.test.ts',
      title: 'LinkWatch follows a link that two looks have found turned, and none that is turned on',
    },
  },
  {
    name: 'reload-misfit',
    file: 'src/reload/reloader.ts',
    find: 'if (motifLabels.length !== current.motifLabels.length) {',
    replace: 'if (motifLabels.length < 0) {',
    test: { file: 'test/reload.test.ts', title: 'with other motifs than clients were told of' },
  },
  {
    name: 'verify-before-promote',
    file: 'src/artifacts/promote.ts',
    find: 'if (problems.length > 0) {',
    replace: 'if (problems.length < 0) {',
    test: {
      file: 'test/artifacts.test.ts',
      title: 'rollback refuses a version that has gone bad since',
    },
  },
  {
    name: 'nothing-taken-after-a-handover',
    file: 'workers/loop.ts',
    find: 'const waiting = ring.handingOver ? 0 : Math.min(room, published)',
    replace: 'const waiting = Math.min(room, published)',
    test: {
      file: 'test/replace-model.test.ts',
      title: 'serve() ends what it has taken, and leaves all the rest to the successor that was called',
    },
  },
  {
    name: 'epochs-at-a-handover',
    file: 'src/core/ring.ts',
    find: 'if (Atomics.compareExchange(this.#header, EPOCH, epoch, this.#lastEpoch) !== epoch) return',
    replace: 'Atomics.store(this.#header, EPOCH, this.#lastEpoch)',
    test: {
      file: 'test/replace-model.test.ts',
      title: 'a worker that is given up just as it lets go has one successor, which loses nothing',
    },
  },
  {
    name: 'generation-of-a-result',
    file: 'src/served-models.ts',
    find: 'if (generation !== this.#generation) {',
    replace: 'if (this.#values === null) {',
    test: {
      file: 'test/reload.test.ts',
      title: 'results that come around a handover are told to be of the model that gave them',
    },
  },

  // Who may come in, and how much of it.
  {
    name: 'api-key',
    file: 'src/http/access.ts',
    find: 'if (timingSafeEqual(key, presented)) found = index',
    replace: 'found = index',
    test: {
      file: 'test/routes.test.ts',
      title: 'with API_KEY set, nobody without a key is told more of any other path',
    },
  },
  {
    name: 'metrics-key',
    file: 'src/http/server.ts',
    find: "|| (endpoint === '/metrics' && metricsKey)",
    replace: '',
    test: {
      file: 'test/security.test.ts',
      title:
        'METRICS_KEY closes /metrics to those without a key, health stays open, and without it /metrics is open',
    },
  },
  {
    name: 'origin',
    file: 'src/http/access.ts',
    find: 'return URL.canParse(origin) && new URL(origin).host === host.toLowerCase()',
    replace: 'return true',
    test: {
      file: 'test/stream-access.test.ts',
      title: 'GET /stream lets in pages of its own host, and of those that CORS_ORIGINS lists, and no others',
    },
  },
  {
    name: 'rate-limit',
    file: 'src/http/rate-limit.ts',
    find: 'return missing <= 0 ? 0 :',
    replace: 'return missing < Infinity ? 0 :',
    test: {
      file: 'test/security-rate.test.ts',
      title:
        'RATE_LIMIT_PER_ADDRESS counts those behind one address together, keys or none, and believes no header',
    },
  },
  {
    name: 'buckets-in-bounded-memory',
    file: 'src/http/rate-limit.ts',
    find: 'if (this.#buckets.size >= this.#capacity) {',
    replace: 'if (this.#capacity < 0) {',
    test: {
      file: 'test/security-rate.test.ts',
      title: 'buckets take bounded memory: the client that was seen least recently is forgotten',
    },
  },
  {
    name: 'forwarded-address',
    file: 'src/http/rate-limit.ts',
    find: 'const told = this.#trustProxy ? toldAddress(request) : null',
    replace: 'const told = toldAddress(request)',
    test: {
      file: 'test/security-rate.test.ts',
      title:
        'RATE_LIMIT_PER_ADDRESS counts those behind one address together, keys or none, and believes no header',
    },
  },
  {
    name: 'connections',
    file: 'src/http/keep-alive.ts',
    find: 'if (this.#open > this.#maxOpen) return',
    replace: 'if (this.#maxOpen < 0) return',
    test: {
      file: 'test/security.test.ts',
      title:
        'MAX_CONNECTIONS closes what comes beyond it, serves those who are there, and lets the next in when one leaves',
    },
  },
  {
    name: 'idle-connections',
    file: 'src/http/keep-alive.ts',
    find: 'if (answeredBytes === 0 || answeredBytes > LONGEST_ANSWER_BYTES) continue',
    replace: '',
    test: {
      file: 'test/chaos-connections.test.ts',
      title:
        'clients that vanish without a word give back what they held: slots at once, connections when they have idled',
    },
  },
  {
    name: 'body-limit',
    file: 'src/http/body.ts',
    find: 'if (this.#received + part.length > limitBytes) {',
    replace: 'if (limitBytes < 0) {',
    test: {
      file: 'test/truncation.test.ts',
      title: 'a body that grows too large in chunks is refused, and what follows is answered',
    },
  },
  {
    name: 'slow-body',
    file: 'src/http/exchange.ts',
    find: 'if (this.onLate(this.#body!)) return',
    replace: 'return',
    test: {
      file: 'test/truncation.test.ts',
      title:
        'a body that comes too slowly is answered deadline_exceeded before it is complete, and others are served meanwhile',
    },
  },
  {
    name: 'credits',
    file: 'src/http/session.ts',
    find: 'if (!answer.paid) {',
    replace: 'if (answer.sequence < 0) {',
    test: {
      file: 'test/stream-limits.test.ts',
      title:
        'a window beyond the credits gets exactly one answer, an error in its turn, and takes nobody else down',
    },
  },
  {
    name: 'idle-frames',
    file: 'src/http/session.ts',
    find: 'if (++this.#idleFrames > MAX_IDLE_FRAMES)',
    replace: 'if (++this.#idleFrames < 0)',
    test: { file: 'test/stream-abuse.test.ts', title: 'of gaps' },
  },
  {
    name: 'unread-answers',
    file: 'src/http/session.ts',
    find: 'if (this.#sender.bufferedBytes > MAX_BUFFERED_BYTES) {',
    replace: 'if (this.#sender.bufferedBytes < 0) {',
    test: {
      file: 'test/stream-session.test.ts',
      title: 'Session closes with 1008 when more than 256 KiB is not read',
    },
  },
  {
    name: 'silent-streams',
    file: 'src/http/session.ts',
    find: 'this.#timer = setTimeout(() => this.#close(CLOSE.goingAway, reason), SILENCE_MS)',
    replace: '',
    test: {
      file: 'test/stream-session.test.ts',
      title: 'Session closes with 1001 after 5 minutes without a frame, and not before',
    },
  },
  {
    name: 'safety-headers',
    file: 'src/http/server.ts',
    find: "  'X-Content-Type-Options': 'nosniff',\n",
    replace: '',
    test: { file: 'test/security.test.ts', title: 'pages tell browsers to trust nothing but themselves' },
  },
  {
    name: 'bad-certificate',
    file: 'src/certificate.ts',
    find: 'createSecureContext({ cert: certPem, key: keyPem })',
    replace: '',
    test: {
      file: 'test/tls.test.ts',
      title:
        'a certificate that comes into the files is shown by itself; a bad one changes nothing, is logged and counted',
    },
  },

  // Another model.
  {
    name: 'successor-self-check',
    file: 'workers/serve.ts',
    find: 'this.#tryPrimary({ check: started })',
    replace: 'this.#tryPrimary({ check: started && !successor })',
    test: {
      file: 'test/replace-model.test.ts',
      title: 'a model that cannot take over in every stream changes nothing, and it is told why',
    },
  },
  {
    name: 'successor-that-ended',
    file: 'src/engine/pool.ts',
    find: 'for (const worker of this.#workers) worker.expectSuccessor()',
    replace: '',
    test: {
      file: 'test/replace-model.test.ts',
      title: 'a successor that dies while it waits for the others is called by nobody, and nothing changes',
    },
  },
  {
    name: 'handover-takes-nothing-more',
    file: 'workers/loop.ts',
    find: 'ring.handingOver ? 0 : Math.min(room, published)',
    replace: 'Math.min(room, published)',
    test: {
      file: 'test/replace-model.test.ts',
      title: 'serve() ends what it has taken, and leaves all the rest to the successor that was called',
    },
  },
  {
    name: 'let-go-compares',
    file: 'src/core/ring.ts',
    find: 'if (Atomics.compareExchange(this.#header, EPOCH, this.#epoch, called) !== this.#epoch) return',
    replace: 'Atomics.store(this.#header, EPOCH, called)',
    test: {
      file: 'test/replace-model.test.ts',
      title: 'a worker that lets go just as it is given up takes the ring from nobody',
    },
  },
  {
    name: 'fallback-of-its-version',
    file: 'src/reloading.ts',
    find: 'await engine.replaceModel(taskOf(loaded))',
    replace: 'await engine.replaceModel(taskOf({ ...loaded, fallback: models.fallback }))',
    test: {
      file: 'test/reload-fallback.test.ts',
      title:
        'a version that was reloaded has its own fallback while the device is lost, and until it is back',
    },
  },
  {
    name: 'load-at-a-drain',
    file: 'src/reloading.ts',
    find: "for (const answer of this.#waiting) answer({ result: 'refused', reason: DRAINING })",
    replace: '',
    test: {
      file: 'test/reload.test.ts',
      title: 'who waits for a model that is slow to open is told at once that the server drains',
    },
  },
  {
    name: 'look-that-hangs',
    file: 'src/reload/link-watch.ts',
    find: '(await inTime(this.#looking)) === LATE || ',
    replace: '',
    test: {
      file: 'test/reload.test.ts',
      title: 'a disk that hangs has one look of LinkWatch, which keeps nobody waiting',
    },
  },

  // Clock, disk, start and end.
  {
    name: 'monotonic-clock',
    file: 'src/clock.ts',
    find: 'return seconds * 1e3 + nanoseconds / 1e6',
    replace: 'return Date.now() + 0 * (seconds + nanoseconds)',
    test: {
      file: 'test/wall-clock.test.ts',
      title: 'a wall clock that jumps by an hour either way moves no timeout, lease or limit',
    },
  },
  {
    name: 'telemetry-budget',
    file: 'workers/telemetry/archive.ts',
    find: 'while (total() + moreBytes > this.#budgetBytes) {',
    replace: 'while (false) {',
    test: {
      file: 'test/telemetry-disk.test.ts',
      title:
        'files are rotated, the oldest of all runs go when the budget is used up, and nobody else is touched',
    },
  },
  {
    name: 'upload-waits',
    file: 'src/http/bulk.ts',
    find: 'if (this.#complete || this.#reader.hasNext()) this.#keepOpen()',
    replace: '',
    test: {
      file: 'test/keep-alive.test.ts',
      title:
        'clients that idle 9.5 to 11 s between posts never fail, nor does a pool that is held, nor an upload that waits for room',
    },
  },
  {
    name: 'shed-by-haste',
    file: 'src/engine/load-watch.ts',
    find: 'if (waitMs > this.#deadlineMs) this.#shed++',
    replace: 'this.#shed++',
    test: {
      file: 'test/load-watch.test.ts',
      title: 'windows that are shed for a deadline shorter than the own are no load',
    },
  },
  {
    name: 'shed-by-age',
    file: 'src/engine/load-watch.ts',
    find: 'while (nowMs - this.#asked[0]!.lookedMs >= SHED_MS)',
    replace: 'if (this.#asked.length > 20)',
    test: {
      file: 'test/load-watch.test.ts',
      title:
        'what was shed more than a second ago is forgotten, however seldom the main thread comes to look',
    },
  },
  {
    name: 'bulk-alone',
    file: 'src/engine/load-watch.ts',
    find: 'if (!this.expectsLive(nowMs)) return { fill: 0, wait: 0 }',
    replace: '',
    test: {
      file: 'test/load-watch.test.ts',
      title:
        'a ring that bulk alone keeps full and slow is no load, from a second after the last live window on',
    },
  },
  {
    name: 'bulk-ahead',
    file: 'src/core/admission.ts',
    find: 'Math.min(BULK_AHEAD_MS, BULK_AHEAD_SHARE * deadlineMs)',
    replace: 'BULK_AHEAD_MS',
    test: {
      file: 'test/admission.test.ts',
      title: 'ends at a quarter of a deadline that is shorter than 40 ms',
    },
  },
  {
    name: 'thinned-behind-refused',
    file: 'src/http/session.ts',
    find: 'const place = engine.admit(answer)',
    replace: 'this.#thinning?.went(window.sequence)\n    const place = engine.admit(answer)',
    test: {
      file: 'test/stream-session.test.ts',
      title:
        'Session that is thinned leaves out what overlaps a window that went on, not one that was refused',
    },
  },
  {
    name: 'probes-of-this-host',
    file: 'src/http/keep-alive.ts',
    find: '!isOfThisHost(socket) && ',
    replace: '',
    test: {
      file: 'test/overload-levels.test.ts',
      title: 'in REJECT nobody new is let in but a few, those who are connected are served, and it passes',
    },
  },
  {
    name: 'telemetry-folder',
    file: 'workers/telemetry/archive.ts',
    find: ' && !set.gone) {',
    replace: ') {',
    test: {
      file: 'test/telemetry-disk.test.ts',
      title: 'a folder that goes away while it is written to is made again',
    },
  },
  {
    name: 'log-disk',
    file: 'src/log.ts',
    find: "destination.on('error', () => {})",
    replace: '',
    test: { file: 'test/failure-log.test.ts', title: 'a full disk under the log takes lines, and no answer' },
  },
  {
    name: 'port-taken',
    file: 'src/http/free-port.ts',
    find: 'if (port === 0) return',
    replace: 'if (port >= 0) return',
    test: {
      file: 'test/chaos.test.ts',
      title: 'an engine does not start on the port that another was told to serve, which serves on',
    },
  },
  {
    name: 'drain',
    file: 'src/engine/engine.ts',
    find: 'while (this.streams.some(stream => stream.unsettled > 0)) {',
    replace: 'while (false) {',
    test: {
      file: 'test/drain.test.ts',
      title: 'a server that drains answers what is in flight, and tells everybody else to go elsewhere',
    },
  },
  {
    name: 'drain-hold',
    file: 'src/http/gate.ts',
    find: 'this.#held ??= []',
    replace: '',
    test: {
      file: 'test/gate.test.ts',
      title: 'while the port closes AnswerGate holds answers, and lets them out in order when it has closed',
    },
  },
]
