import { spawnSync } from 'node:child_process'

/** Prometheus' own checker. */
export const HAS_PROMTOOL = spawnSync('promtool', ['--version']).status === 0

/** What it says against metrics in the text format: lines, none when all is well. */
export function complaintsAbout(text: string): string[] {
  const { stdout, stderr } = spawnSync('promtool', ['check', 'metrics'], { input: text, encoding: 'utf8' })
  return `${stdout}${stderr}`.split('\n').filter(line => line !== '')
}
