import { readFile } from 'node:fs/promises'
import { expect, signIn, speech, test } from './steno'
import { joined } from './wav'

test('dropped files are watched: stage, progress, speed, what is left, and the text as it is heard', async ({ page, steno }) => {
  await signIn(page, steno)
  const jfk = await readFile(speech('jfk.wav'))
  const sense = await readFile(speech('sense.wav'))
  const files = { 'interview.wav': joined(...Array.from({ length: 5 }, () => [jfk, sense]).flat()), 'note.wav': sense }
  const target = page.getByRole('region', { name: 'Drop recordings here' })
  const transfer = await page.evaluateHandle((all) => {
    const t = new DataTransfer()
    for (const [name, data] of Object.entries(all)) {
      t.items.add(new File([Uint8Array.from(atob(data), (c) => c.charCodeAt(0))], name, { type: 'audio/wav' }))
    }
    return t
  }, Object.fromEntries(Object.entries(files).map(([name, data]) => [name, data.toString('base64')])))
  await target.dispatchEvent('dragover', { dataTransfer: transfer })
  await expect(target).toHaveClass(/over/)
  await target.dispatchEvent('drop', { dataTransfer: transfer })
  await expect(target).not.toHaveClass(/over/)

  const card = page.getByRole('article', { name: 'interview.wav' })
  await expect(page.getByRole('article', { name: 'note.wav' })).toBeVisible()
  const bar = card.getByRole('progressbar', { name: 'Transcription of interview.wav' })
  await expect(card).toContainText('transcribing', { timeout: 60_000 })
  await expect(card).toContainText(/\d+:\d\d left · \d+\.\d times as fast as speech/, { timeout: 60_000 })
  await expect(bar).toHaveAttribute('aria-valuenow', /^[1-9]\d?$/)
  await card.getByRole('link', { name: 'interview.wav', exact: true }).click()
  await expect(page.getByRole('log')).toContainText('my fellow Americans', { timeout: 60_000 })
  await page.getByRole('link', { name: 'Transcribe' }).click()
  await expect(card.getByText('done', { exact: true })).toBeVisible({ timeout: 120_000 })
})
