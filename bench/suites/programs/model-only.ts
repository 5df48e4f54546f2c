/** An empty Node.js that loads the model and does nothing else: no start can be faster. */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { InferenceSession } from 'onnxruntime-node'
import { SHIPPED_MODEL_FOLDER } from '../../../src/project.ts'
import { announce } from '../../contenders/protocol.ts'
import { SESSION_OPTIONS } from '../../contenders/session-options.ts'

const bytes = readFileSync(join(SHIPPED_MODEL_FOLDER, 'model_dynamic.onnx'))
await InferenceSession.create(bytes, SESSION_OPTIONS)
announce(0)
