import { problemOf } from './problem'
import { base, session } from './session.svelte'

export interface ServerEvent {
  id: string
  name: string
  data: string
}

/**
 * The events of a stream, until it ends or the signal aborts it. EventSource cannot send the token, so this reads the body. After a
 * break it comes again from the last event; it throws a Problem where the API refuses.
 */
export async function* follow(path: string, signal: AbortSignal): AsyncGenerator<ServerEvent> {
  let last = ''
  for (let wait = 500; !signal.aborted; wait = Math.min(wait * 2, 10_000)) {
    try {
      const headers: Record<string, string> = { Authorization: `Bearer ${session.token}` }
      if (last) headers['Last-Event-ID'] = last
      const response = await fetch(base + path, { headers, signal })
      if (response.status === 204) return
      if (response.status === 401) session.refuse()
      if (!response.ok) {
        const problem = await problemOf(response)
        if (response.status < 500 && response.status !== 429) throw new Refused(problem)
        throw problem
      }
      for await (const event of parse(response.body!)) {
        wait = 500
        if (event.id) last = event.id
        yield event
      }
    } catch (error) {
      if (signal.aborted) return
      if (error instanceof Refused) throw error.problem
    }
    await new Promise((done) => setTimeout(done, wait))
  }
}

class Refused extends Error {
  constructor(readonly problem: Error) {
    super(problem.message)
  }
}

async function* parse(body: ReadableStream<Uint8Array>): AsyncGenerator<ServerEvent> {
  const reader = body.pipeThrough(new TextDecoderStream() as unknown as ReadableWritablePair<string, Uint8Array>).getReader()
  let text = ''
  for (;;) {
    const { done, value } = await reader.read()
    if (done) return
    text += value
    for (let end = text.indexOf('\n\n'); end >= 0; end = text.indexOf('\n\n')) {
      const event = { id: '', name: '', data: '' }
      for (const line of text.slice(0, end).split('\n')) {
        const [, field, rest] = /^([^:]*): ?(.*)$/.exec(line) ?? []
        if (field === 'id') event.id = rest!
        if (field === 'event') event.name = rest!
        if (field === 'data') event.data += rest!
      }
      text = text.slice(end + 2)
      if (event.name) yield event
    }
  }
}
