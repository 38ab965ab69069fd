import { DetailedError, Upload as Tus } from 'tus-js-client'
import * as api from './api'
import { asProblem, Problem, problemFrom } from './problem'
import { Rate } from './rate'
import { base, session } from './session.svelte'
import { board } from './tasks.svelte'

export type UploadState = 'waiting' | 'sending' | 'broken' | 'checking' | 'failed'

const atOnce = 2
const chunk = 8 << 20 // one request each, so that a proxy's limits and the server's turns are no trouble
const delays = [500, 1000, 2000, 4000, 8000, ...Array<number>(60).fill(15_000)] // between tries while nothing gets through

/** A file on its way, until it is a task. */
export class Upload {
  state = $state<UploadState>('waiting')
  sent = $state(0)
  /** Bytes per second. */
  speed = $state(0)
  problem = $state<Problem | null>(null)
  readonly rate = new Rate()
  tus: Tus | undefined

  constructor(
    readonly file: File,
    readonly order: Omit<api.Order, 'file_id'>,
  ) {}
}

/** Sends files, some at a time; a break or a restart of the server only holds them up. */
class Uploads {
  list = $state<Upload[]>([])

  add(files: Iterable<File>, order: Omit<api.Order, 'file_id'>): void {
    for (const file of files) this.list.push(new Upload(file, order))
    this.#next()
  }

  retry(upload: Upload): void {
    upload.problem = null
    upload.state = 'waiting'
    this.#next()
  }

  /** Takes a file back, with what was sent of it. */
  async drop(upload: Upload): Promise<void> {
    this.list = this.list.filter((u) => u !== upload)
    this.#next()
    await upload.tus?.abort(true).catch(() => undefined) // the server forgets it in a day anyway
  }

  get busy(): boolean {
    return this.list.some((u) => u.state !== 'failed')
  }

  clear(): void {
    for (const u of this.list) void u.tus?.abort()
    this.list = []
  }

  #next(): void {
    const working = this.list.filter((u) => u.state !== 'waiting' && u.state !== 'failed').length
    for (const upload of this.list.filter((u) => u.state === 'waiting').slice(0, Math.max(0, atOnce - working))) {
      void this.#send(upload)
    }
  }

  async #send(upload: Upload): Promise<void> {
    upload.state = 'sending'
    try {
      const at = await this.#transfer(upload)
      upload.state = 'checking'
      const file = await patient(() => api.finishUpload(at))
      const made = await patient(() => api.create({ ...upload.order, file_id: file.file_id }))
      board.show(await patient(() => api.task(made.task_id))) // one that took a transcript over is never open
      this.list = this.list.filter((u) => u !== upload)
    } catch (error) {
      upload.problem = asProblem(error)
      upload.state = 'failed'
    }
    this.#next()
  }

  #transfer(upload: Upload): Promise<string> {
    return new Promise((done, fail) => {
      const tus = new Tus(upload.file, {
        endpoint: `${base}/uploads`,
        chunkSize: chunk,
        retryDelays: delays,
        metadata: { filename: upload.file.name },
        removeFingerprintOnSuccess: true,
        onBeforeRequest: (request) => request.setHeader('Authorization', `Bearer ${session.token}`),
        onShouldRetry: (error) => {
          const status = error.originalResponse?.getStatus() ?? 0
          const again = status === 0 || status === 409 || status === 423 || status === 429 || status >= 500
          if (again) upload.state = 'broken'
          return again && this.list.includes(upload)
        },
        onProgress: (sent) => {
          upload.state = 'sending'
          upload.sent = sent
          upload.speed = upload.rate.add(sent)
        },
        onSuccess: () => done(new URL(tus.url!, location.href).pathname),
        onError: (error) => fail(problemOfTus(error)),
      })
      upload.tus = tus
      void tus.findPreviousUploads().then((before) => {
        if (before[0]) tus.resumeFromPreviousUpload(before[0])
        tus.start()
      }, fail)
    })
  }
}

function problemOfTus(error: Error | DetailedError): Problem {
  const response = error instanceof DetailedError ? error.originalResponse : null
  if (!response) return new Problem(0, 'NETWORK', error.message)
  if (response.getStatus() === 401) session.refuse()
  return problemFrom(response.getStatus(), response.getBody())
}

/** Tries again while the server is busy or away. */
async function patient<T>(call: () => Promise<T>): Promise<T> {
  for (const delay of delays) {
    try {
      return await call()
    } catch (error) {
      const { status } = asProblem(error)
      if (status !== 0 && status !== 429 && status < 500) throw error
      await new Promise((done) => setTimeout(done, delay))
    }
  }
  return call()
}

export const uploads = new Uploads()
