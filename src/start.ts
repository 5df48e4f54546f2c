import { Server } from 'hyper-express'

const server = new Server()
const app = server.uws_instance
console.log(typeof app)
