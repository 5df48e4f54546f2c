/** The parts of a window's way, in a fresh process: what others have compiled there is not in their way. Prints JSON. */
import { endWithParent, readOptions } from '../../contenders/protocol.ts'
import { benchMicro } from '../../micro/micro.ts'

endWithParent()
process.stdout.write(`${JSON.stringify(await benchMicro(readOptions<{ ms: number }>()))}\n`)
process.exit()
