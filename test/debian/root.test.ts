import { expect, test } from 'vitest'
import { DebianRoot } from './root.ts'

test('a Debian root is clean, has a network of its own where it is asked for, and keeps what is done in it', async () => {
  const root = await DebianRoot.create('trixie')
  try {
    expect(
      await root.shell('. /etc/os-release; echo $VERSION_CODENAME; command -v node || echo no node'),
    ).toBe('trixie\nno node\n')
    expect(await root.shell('ip -brief link | wc -l', { offline: true })).toBe('1\n')
    await root.shell('echo kept > /etc/kept')
    expect(await root.run(['cat', '/etc/kept'], { user: 'nobody', cwd: '/' })).toBe('kept\n')
    await expect(root.shell('echo why >&2; exit 3')).rejects.toThrow(/ended with 3:\nwhy/)
  } finally {
    root.close()
  }
})
