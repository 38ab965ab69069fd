import { rmSync } from 'node:fs'
import { expect, Steno, test, transcribed } from './steno'

// What `make first-run` adds to the time of `make run`.
test('the first transcript is soon on the page', async ({ page }) => {
  const steno = new Steno()
  try {
    const began = performance.now()
    const passed = (): string => ((performance.now() - began) / 1000).toFixed(1)
    await steno.start()
    const ready = passed()
    await transcribed(page, steno, 'jfk.wav')
    await expect(page.locator('.said').first()).toContainText('my fellow Americans')
    console.log(`a new steno was ready after ${ready} s, and its first transcript on the page after ${passed()} s`)
  } finally {
    await steno.end('SIGTERM')
    rmSync(steno.data, { recursive: true })
  }
})
