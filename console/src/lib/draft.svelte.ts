import type { Edit, Segment } from './types'

/** Changes of a transcript that are not saved yet. */
export class Draft {
  #changes = $state<Record<number, { text?: string; speaker?: string }>>({})

  get size(): number {
    return Object.keys(this.#changes).length
  }

  has(id: number): boolean {
    return id in this.#changes
  }

  /** A segment as it will be. */
  of(s: Segment): Segment {
    const change = this.#changes[s.id]
    return change ? { ...s, ...change } : s
  }

  change(original: Segment, text: string, speaker: string): void {
    const change: { text?: string; speaker?: string } = {}
    if (text !== original.text) change.text = text
    if (speaker !== (original.speaker ?? '')) change.speaker = speaker
    const rest = { ...this.#changes }
    delete rest[original.id]
    this.#changes = Object.keys(change).length ? { ...rest, [original.id]: change } : rest
  }

  /** Gives a speaker another name in all segments. */
  rename(segments: readonly Segment[], old: string, name: string): void {
    for (const s of segments) {
      const now = this.of(s)
      if ((now.speaker ?? '') === old) this.change(s, now.text, name)
    }
  }

  clear(): void {
    this.#changes = {}
  }

  edit(base: number): Edit {
    return { base, segments: Object.entries(this.#changes).map(([id, change]) => ({ id: Number(id), ...change })) }
  }
}
