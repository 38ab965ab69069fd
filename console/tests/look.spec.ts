import { readFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import type { Page } from '@playwright/test'
import { expect, password, speech, test, transcribed } from './steno'

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

test('nobody is kept out, in light and dark, on a desk and on a phone', async ({ page, steno }) => {
  const errors: string[] = []
  page.on('console', (m) => m.type() === 'error' && errors.push(m.text()))
  page.on('pageerror', (e) => errors.push(e.message))
  const look = async (name: string): Promise<void> => {
    for (const [kind, size] of Object.entries({ desk: { width: 1280, height: 800 }, phone: { width: 390, height: 844 } })) {
      await page.setViewportSize(size)
      for (const scheme of ['light', 'dark'] as const) {
        await page.emulateMedia({ colorScheme: scheme, reducedMotion: 'reduce' })
        expect(await barriers(page), `${name}, ${kind}, ${scheme}`).toEqual([])
        expect(await wide(page), `${name}, ${kind}: wider than the screen by`).toBe(0)
        if (pictures && (kind === 'desk') === (scheme === 'light')) await page.screenshot({ path: `${pictures}/${name}-${kind}.png` })
      }
    }
    await page.setViewportSize({ width: 1280, height: 800 })
    await page.emulateMedia({ colorScheme: 'light' })
  }
  await page.goto(steno.url)
  await look('sign-in')
  await transcribed(page, steno, 'sense.wav')
  await page.getByRole('button', { name: /^Edit the sentence/ }).first().click()
  await page.getByRole('combobox', { name: /^Speaker at/ }).fill('Narrator')
  await page.getByRole('button', { name: 'Apply' }).click()
  await page.getByRole('button', { name: 'Save changes' }).click()
  await page.getByLabel('Search in the transcript').fill('had')
  await page.getByRole('slider', { name: 'Position' }).press('PageUp')
  await page.locator('.said span', { hasText: /^Dashwood$/ }).first().click()
  await page.getByRole('button', { name: 'Pause' }).click()
  await page.getByRole('button', { name: /^Edit the sentence/ }).nth(2).click()
  await look('transcript')
  await page.getByRole('button', { name: 'Cancel' }).click()
  await page.getByRole('link', { name: 'Transcribe' }).click()
  await page.getByText('Options').click()
  await look('transcribe')
  await page.getByRole('link', { name: 'History' }).click()
  await expect(page.getByRole('row', { name: /sense\.wav/ }).first()).toBeVisible()
  await look('history')
  expect(errors).toEqual([])
})

test('it can be worked from the keyboard alone', async ({ page, steno }) => {
  await page.goto(steno.url)
  await page.getByLabel('User name').focus()
  await page.keyboard.type('ada')
  await page.keyboard.press('Tab')
  await page.keyboard.type(password)
  await page.keyboard.press('Enter')
  await expect(page.getByRole('button', { name: 'Choose files' })).toBeVisible()
  await page.reload() // so that the first Tab begins at the top
  await expect(page.getByRole('button', { name: 'Choose files' })).toBeVisible()
  await page.keyboard.press('Tab')
  await expect(page.getByRole('link', { name: 'Skip to content' })).toBeFocused()
  await page.keyboard.press('Enter')
  await page.keyboard.press('Tab')
  await expect(page.getByRole('button', { name: 'Choose files' })).toBeFocused()
  const chooser = page.waitForEvent('filechooser')
  await page.keyboard.press('Enter')
  await (await chooser).setFiles({ name: 'keys.wav', mimeType: 'audio/wav', buffer: readFileSync(speech('sense.wav')) })
  await page.getByRole('link', { name: 'Open: keys.wav' }).focus({ timeout: 120_000 })
  await page.keyboard.press('Enter')
  await page.getByRole('button', { name: /^Edit the sentence/ }).first().focus()
  await page.keyboard.press('Enter')
  await expect(page.getByRole('textbox', { name: /^Text at/ })).toBeFocused()
  await page.keyboard.press('Control+End')
  await page.keyboard.type(' Indeed.')
  await page.keyboard.press('Control+Enter')
  await page.keyboard.press('Control+s')
  await expect(page.getByText(/^Saved as version/)).toBeVisible()
  await expect(page.locator('.said').first()).toContainText('Indeed.')
})
