import uWebSockets, { type TemplatedApp } from 'uWebSockets.js'
import { announce } from './protocol.ts'

/** Listens on a free port of this machine, and announces it. */
export function listen(app: TemplatedApp): void {
  app.listen('127.0.0.1', 0, socket => {
    if (!socket) throw new Error('Cannot listen on 127.0.0.1')
    announce(uWebSockets.us_socket_local_port(socket))
  })
}
