import { asProblem, problemOf } from './problem'
import { base, session } from './session.svelte'
import type { DeadLetter, Edit, History, ModelOrder, Node, Revision, Summary, Task, Transcript } from './types'

/** A request of the session; it throws a Problem. */
async function request(path: string, init: RequestInit = {}): Promise<Response> {
  const headers = new Headers(init.headers)
  headers.set('Authorization', `Bearer ${session.token}`)
  if (typeof init.body === 'string') headers.set('Content-Type', 'application/json')
  let response: Response
  try {
    response = await fetch(path.startsWith('/v1/') ? path : base + path, { ...init, headers })
  } catch (error) {
    throw asProblem(error)
  }
  if (response.status === 401) session.refuse()
  if (!response.ok) throw await problemOf(response)
  return response
}

async function get<T>(path: string): Promise<T> {
  return (await (await request(path)).json()) as T
}

async function post<T>(path: string, body?: unknown): Promise<T> {
  const response = await request(path, { method: 'POST', body: body === undefined ? null : JSON.stringify(body) })
  return (await response.json()) as T
}

export interface Order {
  file_id: string
  model?: string
  language?: string
  task?: 'transcribe' | 'translate'
  prompt?: string
  diarization?: boolean
  speakers?: number
}

export const create = (order: Order): Promise<{ task_id: string; status: string; reused: boolean }> =>
  post('/transcription/create', { ...order, words: true })

export const task = (id: string): Promise<Task> => get(`/transcription/${id}/status`)

export const remove = async (id: string): Promise<void> => void (await request(`/transcription/${id}`, { method: 'DELETE' }))

export const models = async (): Promise<string[]> => (await get<{ data: { id: string }[] }>('/v1/models')).data.map((m) => m.id)

export function history(filter: { status?: string; file_name?: string; cursor?: string; limit?: number }): Promise<History> {
  const query = new URLSearchParams()
  for (const [name, value] of Object.entries(filter)) if (value) query.set(name, String(value))
  return get(`/user/history?${query}`)
}

/** A transcript and the number of its revision; without a number the newest. */
export async function transcript(id: string, revision?: number): Promise<{ transcript: Transcript; revision: number }> {
  const query = revision === undefined ? '' : `&revision=${revision}`
  const response = await request(`/transcription/${id}/download?format=json${query}`)
  return { transcript: (await response.json()) as Transcript, revision: Number(response.headers.get('Steno-Revision') ?? 0) }
}

export const revisions = async (id: string): Promise<Revision[]> =>
  (await get<{ items: Revision[] }>(`/transcription/${id}/revisions`)).items

export const revise = (id: string, edit: Edit): Promise<Revision> => post(`/transcription/${id}/revisions`, edit)

/** A link to a file for a player, and when it ends. */
export const link = (file: string): Promise<{ url: string; expires_at: string }> => post(`/files/${file}/link`)

export const finishUpload = (at: string): Promise<{ file_id: string; file_name: string }> => post(`${at.slice(base.length)}/finish`)

// For administrators.

export const summary = (): Promise<Summary> => get('/admin/summary')

export const nodes = async (): Promise<Node[]> => (await get<{ items: Node[] }>('/admin/nodes')).items

export const drain = (node: string): Promise<unknown> => post(`/admin/nodes/${encodeURIComponent(node)}/drain`)

export const order = (node: string, what: ModelOrder): Promise<unknown> => post(`/admin/nodes/${encodeURIComponent(node)}/models`, what)

export const deadLetters = (cursor?: string): Promise<{ items: DeadLetter[]; next_cursor: string | null }> =>
  get(`/admin/dead-letters?limit=20${cursor ? `&cursor=${cursor}` : ''}`)

export const retryDead = (letter: string): Promise<unknown> => post(`/admin/dead-letters/${encodeURIComponent(letter)}/retry`)

/** Saves a transcript in a format under the name that the gateway gives it. */
export async function download(id: string, format: string, revision: number): Promise<void> {
  const response = await request(`/transcription/${id}/download?format=${format}&revision=${revision}`)
  const url = URL.createObjectURL(await response.blob())
  const a = document.createElement('a')
  a.href = url
  a.download = nameOf(response.headers.get('Content-Disposition') ?? '') || `transcript.${format}`
  a.click()
  setTimeout(() => URL.revokeObjectURL(url), 60_000)
}

function nameOf(disposition: string): string {
  const coded = /filename\*=UTF-8''([^;]+)/.exec(disposition)?.[1]
  if (coded) return decodeURIComponent(coded)
  return /filename="([^"]*)"/.exec(disposition)?.[1] ?? ''
}
