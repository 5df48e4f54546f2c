import fs from 'node:fs'
import { syncBuiltinESMExports } from 'node:module'

// Loaded before a server, with `node --import`: lines of answers go to the file that OTHER_DISK names, as long as it is
// there, in place of files of their own. It is a pipe that nobody reads, or /dev/full.
const open = fs.openSync
const { OTHER_DISK: other = '' } = process.env
fs.openSync = (path, flags, mode) =>
  /answers-\d+\.ndjson$/.test(String(path)) && fs.existsSync(other)
    ? open(other, 'a')
    : open(path, flags, mode)
syncBuiltinESMExports()
