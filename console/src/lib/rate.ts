/** How fast a number grows, per second, over the last few of them. */
export class Rate {
  #points: { at: number; value: number }[] = []

  constructor(readonly seconds = 10) {}

  add(value: number, now = performance.now() / 1000): number {
    const last = this.#points.at(-1)
    if (last && value < last.value) this.#points = [] // it has begun anew
    this.#points.push({ at: now, value })
    while (this.#points.length > 2 && now - this.#points[0]!.at > this.seconds) this.#points.shift()
    const first = this.#points[0]!
    return now - first.at > 0.2 ? (value - first.value) / (now - first.at) : 0
  }
}
