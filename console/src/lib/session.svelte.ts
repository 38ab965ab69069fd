import { asProblem, problemOf } from './problem'

/** Where the API is, from the root of this host. */
export const base = '/api/v1'

export interface User {
  user_id: string
  username: string
  role: 'user' | 'admin'
}

interface Token {
  access_token: string
  expires_in: number
}

const key = 'steno.session' // of this tab: it goes when the tab is closed

class Session {
  user = $state<User | null>(null)
  /** Whether it is known yet if a session of before still holds. */
  ready = $state(false)
  /** Whether the session ended by itself, so that the page can say why one has to sign in again. */
  expired = $state(false)
  #token = ''
  #timer: ReturnType<typeof setTimeout> | undefined

  get token(): string {
    return this.#token
  }

  async resume(): Promise<void> {
    this.#token = sessionStorage.getItem(key) ?? ''
    try {
      if (this.#token) await this.#renew()
    } catch {
      this.#forget()
    }
    this.ready = true
  }

  async signIn(username: string, password: string): Promise<void> {
    this.#accept(await post<Token>('/auth/token', { username, password }))
    this.user = await this.#me()
    this.expired = false
  }

  signOut(): void {
    this.#forget()
  }

  /** Ends the session after the API has refused its token. */
  refuse(): void {
    this.expired = this.user !== null
    this.#forget()
  }

  #forget(): void {
    clearTimeout(this.#timer)
    sessionStorage.removeItem(key)
    this.#token = ''
    this.user = null
  }

  #accept(token: Token): void {
    this.#token = token.access_token
    sessionStorage.setItem(key, this.#token)
    clearTimeout(this.#timer)
    this.#timer = setTimeout(() => void this.#renewLater(), token.expires_in * 500) // half its life
  }

  async #renew(): Promise<void> {
    this.#accept(await post<Token>('/auth/refresh', null, this.#token))
    this.user ??= await this.#me()
  }

  async #renewLater(): Promise<void> {
    try {
      await this.#renew()
    } catch (error) {
      if (asProblem(error).status === 401) this.refuse()
      else this.#timer = setTimeout(() => void this.#renewLater(), 30_000)
    }
  }

  async #me(): Promise<User> {
    const response = await fetch(`${base}/user/me`, { headers: { Authorization: `Bearer ${this.#token}` } })
    if (!response.ok) throw await problemOf(response)
    return (await response.json()) as User
  }
}

async function post<T>(path: string, body: unknown, token?: string): Promise<T> {
  const headers: Record<string, string> = {}
  if (body !== null) headers['Content-Type'] = 'application/json'
  if (token) headers['Authorization'] = `Bearer ${token}`
  const response = await fetch(base + path, { method: 'POST', headers, body: body === null ? null : JSON.stringify(body) })
  if (!response.ok) throw await problemOf(response)
  return (await response.json()) as T
}

export const session = new Session()
