import { readFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { expect, type Page } from '@playwright/test'

const axe = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8')
const pictures = process.env['CONSOLE_PICTURES'] ?? ''

/** What axe finds that keeps somebody out. */
async function barriers(page: Page): Promise<string[]> {
  await page.evaluate(axe)
  return page.evaluate(async () => {
    const run = (globalThis as unknown as { axe: { run(): Promise<{ violations: { id: string; impact: string; nodes: { html: string }[] }[] }> } }).axe.run
    const { violations } = await run()
    return violations
      .filter((v) => v.impact === 'serious' || v.impact === 'critical')
      .map((v) => `${v.id}: ${v.nodes.map((n) => n.html.slice(0, 120)).join(' | ')}`)
  })
}

async function wide(page: Page): Promise<number> {
  return page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth)
}

/**
 * What a page says on the browser's console, and a function that looks at it in light and dark, on a desk and on a phone. A picture
 * is of what the window shows, or of the whole page.
 */
export function looking(page: Page): { errors: string[]; look: (name: string, whole?: boolean) => Promise<void> } {
  const errors: string[] = []
  page.on('console', (m) => m.type() === 'error' && errors.push(m.text()))
  page.on('pageerror', (e) => errors.push(e.message))
  const look = async (name: string, whole = false): Promise<void> => {
    for (const [kind, size] of Object.entries({ desk: { width: 1280, height: 800 }, phone: { width: 390, height: 844 } })) {
      await page.setViewportSize(size)
      for (const scheme of ['light', 'dark'] as const) {
        await page.emulateMedia({ colorScheme: scheme, reducedMotion: 'reduce' })
        expect(await barriers(page), `${name}, ${kind}, ${scheme}`).toEqual([])
        expect(await wide(page), `${name}, ${kind}: wider than the screen by`).toBe(0)
        if (pictures && (kind === 'desk') === (scheme === 'light')) await page.screenshot({ path: `${pictures}/${name}-${kind}.png`, fullPage: whole })
      }
    }
    await page.setViewportSize({ width: 1280, height: 800 })
    await page.emulateMedia({ colorScheme: 'light' })
  }
  return { errors, look }
}
