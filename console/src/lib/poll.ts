/** How long a question that was in vain waits at most for the next one, in milliseconds. */
const longest = 60_000

/**
 * Asks again and again while the page can be seen: `every` milliseconds after an answer, and ever more slowly while there is none.
 * It returns a function that asks now, and one that ends it.
 */
export function poll(every: number, ask: () => Promise<boolean>): { now: () => void; stop: () => void } {
  let timer: ReturnType<typeof setTimeout> | undefined
  let failures = 0
  let round = 0
  let stopped = false

  async function go(): Promise<void> {
    clearTimeout(timer)
    const mine = ++round
    const answered = await ask()
    failures = answered ? 0 : failures + 1
    if (mine !== round || stopped || document.hidden) return
    timer = setTimeout(() => void go(), Math.min(longest, every * 2 ** failures))
  }
  const seen = (): void => {
    if (document.hidden) clearTimeout(timer)
    else void go()
  }
  document.addEventListener('visibilitychange', seen)
  if (!document.hidden) void go()
  return {
    now: () => void go(),
    stop: () => {
      stopped = true
      clearTimeout(timer)
      document.removeEventListener('visibilitychange', seen)
    },
  }
}
