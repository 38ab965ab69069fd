import { readFile } from 'node:fs/promises'
import { expect, password, signIn, speech, test, transcribed } from './steno'
import { inTurn, joined } from './wav'

test('sign in, send, watch, listen, correct, name, search, download', async ({ page, steno }) => {
  await page.goto(steno.url)
  await expect(page).toHaveURL(/\/console\/$/)
  await page.getByLabel('User name').fill('ada')
  await page.getByLabel('Password').fill('a wrong one')
  await page.getByRole('button', { name: 'Sign in' }).click()
  await expect(page.getByRole('alert')).toHaveText('The user name or the password is wrong.')
  await page.getByLabel('Password').fill(password)
  await page.getByRole('button', { name: 'Sign in' }).click()
  await expect(page.getByText('Nothing is being transcribed.')).toBeVisible()

  // Several files at once; one of them is none.
  await page.getByText('Options').click()
  await page.getByLabel('Language spoken').selectOption('en')
  await page.locator('input[type=file]').setInputFiles([
    { name: 'jfk.wav', mimeType: 'audio/wav', buffer: await readFile(speech('jfk.wav')) },
    { name: 'letter.mp3', mimeType: 'audio/mpeg', buffer: Buffer.from('Dear Sir or Madam, this is no music. '.repeat(50)) },
  ])
  const uploads = page.getByRole('region', { name: 'Uploads' })
  await expect(uploads.getByRole('alert')).toContainText(/\w+/)
  await uploads.getByRole('button', { name: 'Remove: letter.mp3' }).click()
  await expect(uploads).toBeHidden()
  const card = page.getByRole('article', { name: 'jfk.wav' })
  await expect(card.getByText('done', { exact: true })).toBeVisible({ timeout: 120_000 })
  await card.getByRole('link', { name: 'Open: jfk.wav' }).click()

  const said = page.locator('.said')
  await expect(said.first()).toContainText('my fellow Americans')
  await expect(page).toHaveTitle('jfk.wav – steno')

  // A click on a word plays from there, and the word that is heard is lit.
  await page.locator('.said span', { hasText: /^country$/ }).first().click()
  await expect.poll(() => page.locator('audio').evaluate((a: HTMLAudioElement) => a.currentTime)).toBeGreaterThan(5)
  await expect(page.locator('.said .heard')).toBeVisible()
  await page.getByRole('button', { name: 'Pause' }).click()
  await expect.poll(() => page.locator('audio').evaluate((a: HTMLAudioElement) => a.paused)).toBe(true)
  const wave = page.getByRole('slider', { name: 'Position' })
  await wave.press('Home')
  await expect(wave).toHaveAttribute('aria-valuenow', '0')
  await wave.press('ArrowRight')
  await expect(wave).toHaveAttribute('aria-valuenow', '5')

  // Correct a word, and say who speaks.
  await page.getByRole('button', { name: /^Edit the sentence at 0:00/ }).click()
  const field = page.getByRole('textbox', { name: /^Text at/ })
  const heard = await field.inputValue()
  await field.fill(heard.replace('Americans', 'citizens'))
  await page.getByRole('combobox', { name: /^Speaker at/ }).fill('Speaker 1')
  await page.getByRole('button', { name: 'Apply' }).click()
  await expect(page.getByText('Changes that are not saved: 1.')).toBeVisible()
  await page.getByRole('button', { name: 'Save changes' }).click()
  await expect(page.getByText('Saved as version 1.')).toBeVisible()
  await page.getByLabel('Name of Speaker 1').fill('President Kennedy')
  await page.getByLabel('Name of Speaker 1').press('Enter')
  await page.keyboard.press('Control+s')
  await expect(page.getByText('Saved as version 2.')).toBeVisible()
  await expect(page.locator('p.speaker').first()).toHaveText('President Kennedy')

  await page.getByLabel('Search in the transcript').fill('CITIZENS')
  await expect(page.getByText('1 of 1')).toBeVisible()
  await expect(page.locator('.said .hit.current')).toHaveText('citizens')
  await page.getByLabel('Search in the transcript').fill('xyzzy')
  await expect(page.getByText('not found')).toBeVisible()

  for (const [button, file, part] of [
    ['Text', 'jfk.txt', 'President Kennedy: '], ['Subtitles (SRT)', 'jfk.srt', '[President Kennedy]'],
    ['Subtitles (VTT)', 'jfk.vtt', '<v President Kennedy>'], ['Data (JSON)', 'jfk.json', '"edited":true'], ['Word document', 'jfk.docx', 'PK'],
  ] as const) {
    const download = page.waitForEvent('download')
    await page.getByRole('button', { name: button, exact: true }).click()
    const got = await download
    expect(got.suggestedFilename()).toBe(file)
    const text = (await readFile(await got.path())).toString()
    expect(text.replaceAll('": ', '":')).toContain(part)
    if (file !== 'jfk.docx') expect(text).toContain('citizens')
  }

  // What was heard is still there.
  await page.getByLabel('Version').selectOption('as heard')
  await expect(said.first()).toContainText('Americans')
  await expect(page.getByText('This is an earlier version')).toBeVisible()

  // And all of it after a reload, without another sign-in.
  await page.reload()
  await expect(said.first()).toContainText('citizens')
  await page.getByRole('link', { name: 'History' }).click()
  await page.getByLabel('File name begins with').fill('jf')
  await expect(page.getByRole('row', { name: /jfk\.wav/ })).toBeVisible()
  page.once('dialog', (d) => void d.accept())
  await page.getByRole('button', { name: 'Delete: jfk.wav' }).click()
  await expect(page.getByText('Nothing fits.')).toBeVisible()
  await page.getByRole('button', { name: /Sign out/ }).click()
  await expect(page.getByLabel('Password')).toBeVisible()
})

test('an upload survives a broken line and a restart of the server', async ({ page, context, steno }) => {
  const head = await readFile(speech('jfk.wav'))
  const samples = 24 << 20 // bytes: eleven seconds of speech, and silence
  const wav = Buffer.concat([head, Buffer.alloc(samples - head.length)])
  wav.writeUInt32LE(wav.length - 8, 4)
  const data = wav.indexOf('data')
  wav.writeUInt32LE(wav.length - data - 8, data + 4)
  await signIn(page, steno)
  const line = await context.newCDPSession(page)
  await line.send('Network.enable')
  const throttle = (offline: boolean) =>
    line.send('Network.emulateNetworkConditions', { offline, latency: 0, downloadThroughput: -1, uploadThroughput: 2 << 20 })
  await throttle(false)
  await page.locator('input[type=file]').setInputFiles({ name: 'long.wav', mimeType: 'audio/wav', buffer: wav })
  const bar = page.getByRole('progressbar', { name: 'Upload of long.wav' })
  const percent = async (): Promise<number> => Number(await bar.getAttribute('aria-valuenow'))
  await expect.poll(percent).toBeGreaterThan(20)
  await throttle(true)
  await expect(page.getByText(/The line is broken/)).toBeVisible()
  await throttle(false)
  const before = await percent()
  await expect.poll(percent).toBeGreaterThan(Math.max(before, 45))
  await steno.end('SIGKILL')
  await expect(page.getByText(/The line is broken/)).toBeVisible()
  await steno.start()
  await throttle(false)
  await page.getByRole('link', { name: 'Open: long.wav' }).click({ timeout: 120_000 })
  await expect(page.locator('.said').first()).toContainText('my fellow Americans')
})

test('a file that was sent before is there at once', async ({ page, steno }) => {
  await transcribed(page, steno, 'sense.wav')
  await expect(page.locator('.said').first()).toContainText('John Dashwood')
  await page.getByRole('link', { name: 'Transcribe' }).click()
  await page.locator('input[type=file]').setInputFiles(speech('sense.wav'))
  await expect(page.getByRole('article', { name: 'sense.wav' }).getByText('done', { exact: true })).toHaveCount(2)
})

test('a call says who spoke', async ({ page, steno }) => {
  await signIn(page, steno)
  await page.getByText('Options').click()
  await page.getByRole('checkbox', { name: /Tell speakers apart/ }).check()
  await page.locator('input[type=file]').setInputFiles({
    name: 'call.wav', mimeType: 'audio/wav', buffer: inTurn(await readFile(speech('jfk.wav'))),
  })
  await page.getByRole('link', { name: 'Open: call.wav' }).click({ timeout: 120_000 })
  const speakers = page.locator('p.speaker')
  await expect(speakers).toHaveText(['Speaker 1', 'Speaker 2'])
  await page.getByLabel('Name of Speaker 2').fill('Echo')
  await page.getByLabel('Name of Speaker 2').press('Enter')
  await expect(speakers).toHaveText(['Speaker 1', 'Echo'])
})

test('two voices in one channel are told apart', async ({ page, steno }) => {
  await signIn(page, steno)
  await page.getByText('Options').click()
  await page.getByRole('checkbox', { name: /Tell speakers apart/ }).check()
  await page.getByLabel('How many').selectOption('2')
  await page.locator('input[type=file]').setInputFiles({
    name: 'meeting.wav', mimeType: 'audio/wav', buffer: joined(await readFile(speech('jfk.wav')), await readFile(speech('sense.wav'))),
  })
  await page.getByRole('link', { name: 'Open: meeting.wav' }).click({ timeout: 120_000 })
  await expect(page.locator('p.speaker')).toHaveText(['Speaker 1', 'Speaker 2'])
})

test('the page is in Russian where that is wanted', async ({ page, steno }) => {
  await transcribed(page, steno, 'jfk.wav')
  await page.getByLabel('Language', { exact: true }).selectOption('ru')
  await expect(page.locator('html')).toHaveAttribute('lang', 'ru')
  await expect(page.getByRole('heading', { name: 'Расшифровка' })).toBeVisible()
  await page.reload()
  await expect(page.getByRole('link', { name: 'История' })).toBeVisible()
})
