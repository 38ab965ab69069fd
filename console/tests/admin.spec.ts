import { execFileSync } from 'node:child_process'
import { rmSync } from 'node:fs'
import { join } from 'node:path'
import { looking } from './look'
import { expect, password, signIn, speech, Steno, test } from './steno'

test.describe.configure({ mode: 'serial' })

// Of its own, for it is started again with other limits.
const steno = new Steno()

test.afterAll(async () => {
  await steno.end('SIGTERM')
  rmSync(steno.data, { recursive: true })
})

test('a recording that is too long fails for good, and is tried again when more is allowed', async ({ page }) => {
  test.setTimeout(300_000)
  // Without a container nobody knows how long it is before it is decoded, so the gateway takes it and the worker refuses it.
  await steno.start('--max-duration', '5s')
  const long = join(steno.data, 'long.aac')
  execFileSync('ffmpeg', ['-v', 'error', '-i', speech('jfk.wav'), '-c:a', 'aac', '-f', 'adts', long])
  await signIn(page, steno)
  await page.locator('input[type=file]').setInputFiles(long)
  const card = page.getByRole('article', { name: 'long.aac' })
  await expect(card.getByText('failed', { exact: true })).toBeVisible({ timeout: 120_000 })
  await page.getByRole('link', { name: 'Admin' }).click()
  await expect(page).toHaveTitle('Administration – steno')
  const letter = page.getByRole('article', { name: 'long.aac' })
  await expect(letter).toContainText('DURATION_LIMIT')
  await expect(letter).toContainText('of ada')
  await letter.getByText('Attempts: 1').click()
  await expect(letter.getByRole('listitem')).toContainText('failed')
  await expect(page.getByText('100%', { exact: false }).first()).toBeVisible() // of the last hour's tasks have failed

  // As long as the cause is there it fails again.
  await letter.getByRole('button', { name: 'Try again: long.aac' }).click()
  await expect(page.getByRole('status')).toHaveText('long.aac is being tried again.')
  await expect(letter).toContainText('tried again before: 1', { timeout: 60_000 })

  // Once it is gone, it is done, from where the page is: nothing has to be sent again.
  await steno.end('SIGTERM')
  await steno.start()
  await expect(letter).toContainText('tried again before: 1')
  await letter.getByRole('button', { name: 'Try again: long.aac' }).focus()
  await page.keyboard.press('Enter')
  await expect(page.getByRole('status')).toBeFocused()
  await expect(page.getByText('Nothing has failed.')).toBeVisible({ timeout: 60_000 })
  await page.getByRole('link', { name: 'History' }).click()
  await expect(page.getByRole('row', { name: /long\.aac/ })).toContainText('done', { timeout: 120_000 })
  await page.getByRole('link', { name: 'long.aac' }).click()
  await expect(page.locator('.said').first()).toContainText('my fellow Americans')
})

test('workers are shown, and their models are loaded, pinned and unloaded', async ({ page }) => {
  await signIn(page, steno)
  await page.getByRole('link', { name: 'Admin' }).click()
  const node = page.getByRole('region', { name: 'Workers' }).getByRole('article')
  await expect(node).toContainText('takes jobs')
  await expect(node.getByRole('meter', { name: /^cpu, Memory/ })).toBeVisible()
  const models = node.getByRole('list', { name: 'Models in memory' }).getByRole('listitem')
  await node.getByLabel('Model to load').selectOption('tiny.en-q8_0')
  await node.getByRole('button', { name: 'Load', exact: true }).click()
  await expect(page.getByRole('status')).toHaveText('tiny.en-q8_0 is being loaded.')
  const tiny = models.filter({ hasText: 'tiny.en-q8_0' })
  await expect(tiny.getByText('ready')).toBeVisible({ timeout: 60_000 })
  await tiny.getByRole('button', { name: /^Pin: tiny/ }).click()
  await expect(tiny.getByText('pinned')).toBeVisible()
  await tiny.getByRole('button', { name: /^Unpin: tiny/ }).click()
  await expect(tiny.getByText('pinned')).toBeHidden()
  await tiny.getByRole('button', { name: /^Pin: tiny/ }).click()
  await expect(tiny.getByText('pinned')).toBeVisible()
  await tiny.getByRole('button', { name: /^Unload: tiny/ }).focus()
  await page.keyboard.press('Enter')
  await expect(tiny).toHaveCount(0, { timeout: 60_000 })
})

test('who is no administrator sees nothing of it', async ({ page }) => {
  execFileSync(process.env['CONSOLE_STENO']!, ['user', 'add', 'eve', '--password-stdin', '--data', steno.data], { input: password })
  await page.goto(steno.url)
  await page.getByLabel('User name').fill('eve')
  await page.getByLabel('Password').fill(password)
  await page.getByRole('button', { name: 'Sign in' }).click()
  await expect(page.getByRole('link', { name: 'History' })).toBeVisible()
  await expect(page.getByRole('link', { name: 'Admin' })).toBeHidden()
  await page.goto(`${steno.url}/console/#/admin`)
  await expect(page.getByText('There is no such page.')).toBeVisible()
})

test('nobody is kept out of the page for administrators, in light and dark, on a desk and on a phone', async ({ page }) => {
  await steno.end('SIGTERM')
  await steno.start('--max-duration', '5s')
  const { errors, look } = looking(page)
  await signIn(page, steno)
  const second = join(steno.data, 'interview.aac')
  execFileSync('ffmpeg', ['-v', 'error', '-i', speech('jfk.wav'), '-filter:a', 'atempo=0.8', '-c:a', 'aac', '-f', 'adts', second])
  await page.locator('input[type=file]').setInputFiles(second)
  await expect(page.getByRole('article', { name: 'interview.aac' }).getByText('failed', { exact: true })).toBeVisible({ timeout: 120_000 })
  await page.getByRole('link', { name: 'Admin' }).click()
  await expect(page.getByRole('article', { name: 'interview.aac' })).toBeVisible()
  await expect(page.getByRole('list', { name: 'Models in memory' }).getByText('ready').first()).toBeVisible({ timeout: 60_000 })
  await look('admin', true)
  await page.getByLabel('Language').selectOption('ru')
  await expect(page.getByRole('heading', { name: 'Управление' })).toBeVisible()
  await expect(page.getByRole('region', { name: 'Исполнители' })).toContainText('берёт задания')
  await page.setViewportSize({ width: 390, height: 844 })
  expect(await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth)).toBe(0)
  expect(errors).toEqual([])
})
