'use strict'

// uWebSockets.js ships one binary per Node.js ABI and platform, and is not on npm under its own
// name. uws-pack carries the official binaries for Node 20 and 22 on every platform (glibc 2.27 and
// up); @uwsjs carries those for Node 24 (glibc 2.38 and up).
const { existsSync } = require('node:fs')
const { join } = require('node:path')

const { platform, arch, versions } = process
const nodeMajor = Number.parseInt(versions.node, 10)

function load() {
  if (nodeMajor === 24) return require(`@uwsjs/${platform}-${arch}-24`)
  // uws-pack exports an ES module only, so its binary is required by path.
  const binary = join('uws-pack', 'dist', 'bin', `uws_${platform}_${arch}_${versions.modules}.node`)
  return require(
    require.resolve
      .paths('uws-pack')
      .map(folder => join(folder, binary))
      .find(existsSync) ?? binary,
  )
}

try {
  module.exports = load()
} catch (cause) {
  throw new Error(
    `No uWebSockets.js binary fits Node.js ${versions.node} on ${platform} ${arch}: ` +
      'use Node.js 20.19 or 22 (any glibc from 2.27), or Node.js 24 on linux x64 with glibc 2.38 or newer.',
    { cause },
  )
}
