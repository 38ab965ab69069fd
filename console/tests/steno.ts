import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { createWriteStream, mkdtempSync, rmSync } from 'node:fs'
import { createServer, type AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test as base, expect, type Page } from '@playwright/test'

export const password = 'only for this test'

/** A steno of its own, with real models, that can be ended and started again. */
export class Steno {
  readonly data = mkdtempSync(join(tmpdir(), 'console-'))
  port = 0
  #process: ChildProcess | undefined

  get url(): string {
    return `http://127.0.0.1:${this.port}`
  }

  /** Starts it with more flags than it needs. */
  async start(...more: string[]): Promise<void> {
    this.port ||= await freePort()
    const flags = ['up', '--data', this.data, '--models', process.env['CONSOLE_MODELS']!, '--listen', `127.0.0.1:${this.port}`, '--admin', '127.0.0.1:0', ...more]
    const child = spawn(process.env['CONSOLE_STENO']!, flags, {
      env: { PATH: process.env['PATH'], HOME: this.data, STENO_USER: 'ada', STENO_PASSWORD: password },
      stdio: ['ignore', 'ignore', 'pipe'],
    })
    child.stderr.pipe(createWriteStream(join(this.data, 'log'), { flags: 'a' }))
    this.#process = child
    for (let i = 0; ; i++) {
      const ready = await fetch(`${this.url}/health/ready`).then((r) => r.ok, () => false)
      if (ready) return
      if (i > 600 || child.exitCode !== null) throw new Error(`steno is not ready: exit status ${child.exitCode}; see ${this.data}/log`)
      await new Promise((done) => setTimeout(done, 100))
    }
  }

  async end(signal: NodeJS.Signals): Promise<void> {
    const child = this.#process!
    if (child.exitCode !== null || child.signalCode !== null) return
    child.kill(signal)
    await once(child, 'exit')
  }
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  server.close()
  await once(server, 'close')
  return port
}

export const test = base.extend<object, { steno: Steno }>({
  steno: [
    // eslint-disable-next-line no-empty-pattern
    async ({}, use) => {
      const steno = new Steno()
      await steno.start()
      await use(steno)
      await steno.end('SIGTERM')
      rmSync(steno.data, { recursive: true })
    },
    { scope: 'worker', timeout: 120_000 },
  ],
})

export { expect }

export const speech = (name: string): string => join(process.env['CONSOLE_SPEECH']!, name)

export async function signIn(page: Page, steno: Steno): Promise<void> {
  await page.goto(steno.url)
  await page.getByLabel('User name').fill('ada')
  await page.getByLabel('Password').fill(password)
  await page.getByRole('button', { name: 'Sign in' }).click()
  await expect(page.getByRole('link', { name: 'Transcribe' })).toBeVisible()
}

/** Sends a recording and opens its transcript. */
export async function transcribed(page: Page, steno: Steno, name: string): Promise<void> {
  await signIn(page, steno)
  await page.locator('input[type=file]').setInputFiles(speech(name))
  await page.getByRole('link', { name: `Open: ${name}` }).click({ timeout: 120_000 })
  await expect(page.locator('.sentence').first()).toBeVisible()
}
