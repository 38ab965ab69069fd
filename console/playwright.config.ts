import { defineConfig } from '@playwright/test'

// `make console-test` says where steno, its models, speech and a Chromium are.
export default defineConfig({
  testDir: 'tests',
  outputDir: '../.build/console-test',
  workers: 1,
  timeout: 240_000,
  expect: { timeout: 30_000 },
  forbidOnly: true,
  reporter: [['list']],
  use: {
    viewport: { width: 1280, height: 800 },
    locale: 'en-GB',
    trace: 'retain-on-failure',
    launchOptions: { executablePath: need('CONSOLE_CHROMIUM'), args: process.getuid?.() === 0 ? ['--no-sandbox'] : [] },
  },
})

function need(name: string): string {
  const value = process.env[name]
  if (!value) throw new Error(`${name} is not set: run make console-test`)
  return value
}
