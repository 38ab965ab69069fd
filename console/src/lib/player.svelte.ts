import * as api from './api'
import { asProblem } from './problem'

const step = 5 // seconds of a jump

/** Plays a file of the user's, by links that are renewed when they end. */
export class Player {
  time = $state(0)
  duration = $state(0)
  paused = $state(true)
  rate = $state(1)
  src = $state('')
  /** Why nothing can be heard: the file was deleted, or the browser cannot play it. */
  trouble = $state<'' | 'gone' | 'broken'>('')
  #file: string | null
  #expires = 0
  #failed = 0

  constructor(file: string | null, duration: number) {
    this.#file = file
    this.duration = duration
    if (file) void this.#renew()
    else this.trouble = 'gone'
  }

  async #renew(): Promise<void> {
    try {
      const link = await api.link(this.#file!)
      this.#expires = Date.parse(link.expires_at)
      this.src = link.url
    } catch (error) {
      const status = asProblem(error).status
      this.trouble = status === 404 || status === 410 ? 'gone' : 'broken'
    }
  }

  /** Takes up what the element could not play: a link that has ended is renewed, and it goes on where it was. */
  failed(audio: HTMLAudioElement): void {
    const old = Date.now() > this.#expires - 10_000
    const network = audio.error?.code === MediaError.MEDIA_ERR_NETWORK && this.#failed++ < 10
    if (!old && !network) {
      this.trouble = 'broken'
      return
    }
    const { time, paused } = this
    setTimeout(() => {
      void this.#renew().then(() => {
        audio.addEventListener('loadedmetadata', () => {
          audio.currentTime = time
          if (!paused) void audio.play()
        }, { once: true })
      })
    }, old ? 0 : 1000)
  }

  seek(time: number): void {
    this.time = Math.min(Math.max(0, time), this.duration || time)
  }

  jump(direction: 1 | -1): void {
    this.seek(this.time + direction * step)
  }

  toggle(): void {
    if (!this.trouble) this.paused = !this.paused
  }
}
