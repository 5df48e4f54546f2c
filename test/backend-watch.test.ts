import { expect, test, vi } from 'vitest'
import type { BackendFault, DeviceReport } from '../src/core/backend.ts'
import type { StreamReport } from '../src/core/stream-task.ts'
import { BackendWatch } from '../src/engine/backend-watch.ts'
import type { Observer } from '../src/engine/observer.ts'
import { Stream } from '../src/engine/stream.ts'
import { MOTIF_COUNT } from './windows.ts'

const LOST: BackendFault = { cause: 'device_lost', detail: 'gone' }
const DEVICE: DeviceReport = {
  id: '0001:01:00.0',
  name: 'hailo8',
  libraryVersion: '4.23.0',
  firmwareVersion: '4.23.0',
  temperatureCelsius: null,
  clockMhz: 400,
  throttled: false,
  utilisationPercent: 0,
  generation: 1,
}

test('status tells of every backend that answers, and of the fallback that has answered the longest', () => {
  const { watch, worker, observer } = watchOfTwo()
  expect(watch.status).toEqual({ answering: [], fallback: null, fault: null, device: null })
  worker(0, { serving: 'hailo', device: DEVICE })
  worker(1, { serving: 'hailo', device: DEVICE })
  expect(watch.status).toEqual({ answering: ['hailo'], fallback: null, fault: null, device: DEVICE })

  worker(1, { serving: null, fault: LOST })
  expect(watch.status).toEqual({ answering: ['hailo'], fallback: null, fault: LOST, device: DEVICE })
  worker(1, { serving: 'onnx', fault: LOST })
  const { sinceMs } = watch.status.fallback!
  worker(0, { serving: 'onnx', fault: { cause: 'timeout', detail: 'late' } })
  worker(0, { serving: 'onnx', fault: LOST })
  expect(watch.status.answering).toEqual(['onnx'])
  expect(watch.status.fallback).toEqual({ from: 'hailo', to: 'onnx', ...LOST, sinceMs })
  expect(observer.fallbackStarted).toHaveBeenCalledTimes(2)

  worker(1, { serving: 'hailo', device: DEVICE })
  expect(watch.status.answering).toEqual(['onnx', 'hailo'])
  expect(watch.status.fallback).toMatchObject({ cause: 'timeout' })
  worker(0, { serving: 'hailo', device: DEVICE })
  expect(watch.status).toEqual({ answering: ['hailo'], fallback: null, fault: null, device: DEVICE })
  expect(observer.fallbackEnded.mock.calls.map(([worker]) => worker)).toEqual([1, 0])
})

test('while a backend is tried again, it is told why the last one was given up', () => {
  const { watch, worker, streams } = watchOfTwo()
  const wrong: BackendFault = { cause: 'wrong_answers', detail: 'all of them' }
  worker(0, { serving: 'hailo' })
  streams[0]!.workerLost()
  watch.lost(0, wrong)
  worker(0, { serving: null, device: DEVICE })
  expect(watch.status).toMatchObject({ fault: wrong, device: DEVICE })
  worker(0, { serving: null, fault: LOST })
  worker(0, { serving: null })
  expect(watch.status.fault).toEqual(LOST)
  worker(0, { serving: 'hailo', device: DEVICE })
  expect(watch.status.fault).toBeNull()
  worker(0, { serving: null })
  expect(watch.status.fault).toBeNull()
})

test('a worker that was given up is not listened to any more', () => {
  const { watch, worker, streams, observer } = watchOfTwo()
  worker(0, { serving: 'hailo', device: DEVICE })
  const { epoch } = streams[0]!.ring
  streams[0]!.workerLost()
  watch.lost(0, LOST)
  watch.reported({ worker: 0, epoch, serving: 'onnx', fault: LOST, device: DEVICE })
  expect(watch.status).toEqual({ answering: [], fallback: null, fault: LOST, device: null })
  expect(observer.fallbackStarted).not.toHaveBeenCalled()
})

test('the observer is told of a device once, however many workers share it', () => {
  const { worker, observer } = watchOfTwo()
  const hot = { ...DEVICE, throttled: true, generation: 2 }
  worker(0, { serving: 'hailo', device: DEVICE })
  worker(1, { serving: 'hailo', device: DEVICE })
  worker(0, { serving: null, fault: LOST })
  worker(1, { serving: null, fault: LOST })
  worker(0, { serving: 'hailo', device: hot })
  worker(0, { serving: 'hailo', device: { ...hot, throttled: false } })
  expect(observer.deviceChanged.mock.calls).toEqual([
    ['found', DEVICE],
    ['lost', DEVICE],
    ['found', hot],
    ['throttled', hot],
    ['no longer throttled', { ...hot, throttled: false }],
  ])
})

/** Two streams whose workers are played by the test. */
function watchOfTwo() {
  const observer = {
    inferenceEnded: vi.fn<Observer['inferenceEnded']>(),
    cancelled: vi.fn<Observer['cancelled']>(),
    refused: vi.fn<Observer['refused']>(),
    workerLost: vi.fn<Observer['workerLost']>(),
    workerServing: vi.fn<Observer['workerServing']>(),
    poolFailed: vi.fn<Observer['poolFailed']>(),
    fallbackStarted: vi.fn<Observer['fallbackStarted']>(),
    fallbackEnded: vi.fn<Observer['fallbackEnded']>(),
    deviceChanged: vi.fn<Observer['deviceChanged']>(),
  }
  const streams = [0, 1].map(
    () =>
      new Stream({
        capacity: 2,
        motifCount: MOTIF_COUNT,
        observer: { ...observer, windowAnswered() {}, settled() {} },
      }),
  )
  const watch = new BackendWatch(streams, 'hailo', observer)
  const worker = (
    index: number,
    { serving, fault = null, device = null }: Pick<StreamReport, 'serving'> & Partial<StreamReport>,
  ) => {
    const { ring } = streams[index]!
    ring.setServing(serving)
    watch.reported({ worker: index, epoch: ring.epoch, serving, fault, device })
  }
  return { watch, worker, streams, observer }
}
