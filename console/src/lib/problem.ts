/** What the API says when a request fails (RFC 9457), or `code` NETWORK where it cannot be reached. */
export class Problem extends Error {
  constructor(
    readonly status: number,
    readonly code: string,
    message: string,
    readonly requestId = '',
  ) {
    super(message)
  }
}

export async function problemOf(response: Response): Promise<Problem> {
  const text = await response.text().catch(() => '')
  return problemFrom(response.status, text)
}

export function problemFrom(status: number, text: string): Problem {
  try {
    const body = JSON.parse(text) as { code?: string; detail?: string; request_id?: string }
    return new Problem(status, body.code ?? 'UNKNOWN', body.detail ?? `HTTP ${status}`, body.request_id)
  } catch {
    return new Problem(status, 'UNKNOWN', `HTTP ${status}`)
  }
}

export function asProblem(error: unknown): Problem {
  if (error instanceof Problem) return error
  return new Problem(0, 'NETWORK', error instanceof Error ? error.message : String(error))
}
