import type { Segment } from './types'

/** Where a text stands, by segment and place within its text. */
export interface Hit {
  segment: number
  from: number
  to: number
}

/** All places of a text in segments; case and accents do not count. */
export function find(segments: readonly Segment[], query: string): Hit[] {
  const wanted = plain(query.trim())
  if (!wanted.text) return []
  const hits: Hit[] = []
  segments.forEach((s, segment) => {
    const { text, at } = plain(s.text)
    for (let i = text.indexOf(wanted.text); i >= 0; i = text.indexOf(wanted.text, i + wanted.text.length)) {
      hits.push({ segment, from: at[i]!, to: at[i + wanted.text.length]! })
    }
  })
  return hits
}

/** A text without case and accents, and for each of its places the one in the original. */
function plain(original: string): { text: string; at: number[] } {
  let text = ''
  const at: number[] = []
  let place = 0
  for (const c of original) {
    const folded = c.normalize('NFD').replace(/\p{M}/gu, '').toLowerCase()
    for (let i = 0; i < folded.length; i++) at.push(place)
    text += folded
    place += c.length
  }
  at.push(place)
  return { text, at }
}

/** The index of the last item that begins at or before a time; -1 before the first. */
export function lastBefore(items: readonly { start: number }[], time: number): number {
  let lo = 0
  let hi = items.length
  while (lo < hi) {
    const mid = (lo + hi) >> 1
    if (items[mid]!.start <= time) lo = mid + 1
    else hi = mid
  }
  return lo - 1
}

/** The words of a segment with their places in its text, for as long as they are found there in their order. */
export function placed(s: Segment): { from: number; to: number; word: number }[] {
  const out: { from: number; to: number; word: number }[] = []
  let from = 0
  for (const [i, w] of (s.words ?? []).entries()) {
    const at = s.text.indexOf(w.text, from)
    if (at < 0) continue
    out.push({ from: at, to: at + w.text.length, word: i })
    from = at + w.text.length
  }
  return out
}
