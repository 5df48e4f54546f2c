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
  const folder = require.resolve.paths('uws-pack').find(folder => existsSync(join(folder, binary)))
  return require(folder ? join(folder, binary) : binary)
}

/** What to install instead, for this system. The npm package has all binaries but that for Node 24, a clone those of one npm ci. */
function remedy() {
  const isClone = existsSync(join(__dirname, '..', '..', 'package-lock.json'))
  const again = isClone ? ' and run npm ci with it' : ''
  if (!['x64', 'arm64'].includes(arch)) return 'use an x64 or arm64 system'
  if (platform === 'linux') {
    const { glibcVersionRuntime } = process.report.getReport().header
    if (glibcVersionRuntime === undefined) return 'use a Linux with glibc, such as Debian or Ubuntu'
    const [, minor] = glibcVersionRuntime.split('.').map(Number)
    if (minor < 27) return `use a system with glibc 2.27 or newer, this one has ${glibcVersionRuntime}`
    if (arch === 'x64' && minor >= 38) {
      if (nodeMajor === 24) return isClone ? 'run npm ci' : 'run npm install @uwsjs/linux-x64-24@20.69.0'
      return `use Node.js 20.19, 22 or 24${again}`
    }
  }
  return `use Node.js 20.19 or 22${again}`
}

try {
  module.exports = load()
} catch (cause) {
  const message = `No uWebSockets.js binary fits Node.js ${versions.node} on ${platform} ${arch}: ${remedy()}.`
  throw Object.assign(new Error(message, { cause }), { code: 'ERR_NO_UWEBSOCKETS_BINARY' })
}
