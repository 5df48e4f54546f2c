import { loadEndNow } from '../../native/exit.ts'

let listening = false

/**
 * From here on the end of this process waits for no thread: process.exit() would wait for one that sits in native code,
 * for ever, and end by SIGABRT where it interrupts ONNX Runtime.
 * @param how where the native part is not compiled, JavaScript has no way but SIGKILL (137), which is for those who must
 */
export function waitForNoThread(how: 'must' | 'if possible'): void {
  const endNow = loadEndNow() ?? (how === 'must' ? killMyself : null)
  if (listening || endNow === null) return
  listening = true
  process.once('exit', code => endNow(code))
}

function killMyself(): void {
  process.kill(process.pid, 'SIGKILL')
  process.abort() // the first process of a container cannot kill itself
}
