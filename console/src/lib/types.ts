// What the API gives; /openapi.json describes it.

export type State = 'queued' | 'running' | 'done' | 'failed' | 'cancelled'

export interface Task {
  task_id: string
  status: State
  progress: number
  stage: string
  error: { class: string; code: string; message: string } | null
  cancelling: boolean
  reused: boolean
  attempt: number
  file_id: string | null
  file_name: string
  /** Seconds of audio. */
  duration: number
  model: string
  language: string
  created_at: string
  started_at: string | null
  ended_at: string | null
}

export interface History {
  items: Task[]
  next_cursor: string | null
}

export interface Word {
  start: number
  end: number
  text: string
  probability: number
}

export interface Segment {
  id: number
  start: number
  end: number
  text: string
  avg_logprob: number
  speaker?: string
  edited?: boolean
  words?: Word[]
}

export interface Transcript {
  text: string
  language: string
  duration: number
  segments: Segment[]
  model: string
  device: string
  warnings?: string[]
  waveform?: { step: number; peaks: string }
  timings: { total_duration: number }
}

export interface Revision {
  revision: number
  created_at: string
}

export interface Edit {
  base: number
  segments?: { id: number; text?: string; speaker?: string }[]
  speakers?: Record<string, string>
}
