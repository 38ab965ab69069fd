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

/** How it goes, at a glance; what is counted is of the last hour. */
export interface Summary {
  pending: number
  in_flight: number
  oldest_age_seconds: number
  dead_letters: number
  done: number
  failed: number
  cancelled: number
  failure_share: number | null
  audio_seconds: number
  /** Seconds of work for each second of audio. */
  real_time_factor: number | null
}

export interface Device {
  device: string
  name: string
  kind: string
  total_bytes: number
  free_bytes: number
  model_bytes: number
  budget_bytes: number
  slots: number
  slots_in_use: number
  slots_waiting: number
  utilization: number | null
  temperature_celsius: number | null
  power_watts: number | null
  problem: string
}

export interface Model {
  model: string
  device: string
  asked_device: string
  words: boolean
  state: 'loading' | 'ready' | 'closing'
  references: number
  bytes: number
  pinned: boolean
  fallback: string
  last_used_at: string | null
}

export interface Trouble {
  do: ModelOrder['do']
  model: string
  message: string
  at: string
}

export interface Node {
  node_id: string
  host: string
  version: string
  state: 'ready' | 'waiting' | 'draining'
  started_at: string
  seen_at: string
  pools: string[]
  slots: number
  running: number
  helping: number
  waiting: number
  devices: Device[]
  models: Model[]
  files: string[]
  quarantined?: Record<string, string>
  troubles: Trouble[]
}

export interface ModelOrder {
  do: 'load' | 'pin' | 'unpin' | 'unload'
  model: string
  device?: string
  words?: boolean
}

export interface Failure {
  class: string
  code: string
  message: string
}

export interface DeadLetter {
  letter_id: string
  task_id: string | null
  file_name: string
  username: string | null
  error: Failure | null
  stage: string
  attempts: { number: number; worker: string; started_at: string; ended_at: string; outcome: string; stage: string; error: Failure | null }[]
  retries: number
  retryable: boolean
  failed_at: string
}
