import { SvelteMap } from 'svelte/reactivity'
import { follow } from './events'
import { asProblem, type Problem } from './problem'
import { Rate } from './rate'
import type { Task } from './types'

export const open = (task: Task): boolean => task.status === 'queued' || task.status === 'running'

/** A task on the board, with how fast it goes. */
export class Live {
  task = $state.raw<Task>(undefined as unknown as Task)
  /** Seconds of audio per second; 0 while it is not known. */
  speed = $state(0)
  #rate = new Rate(30)

  constructor(task: Task) {
    this.update(task)
  }

  update(task: Task): void {
    this.task = task
    this.speed = task.stage === 'transcribe' ? this.#rate.add(task.progress * task.duration) : 0
  }

  /** Seconds that are left; 0 while it is not known. */
  get left(): number {
    return this.speed > 0 ? ((1 - this.task.progress) * this.task.duration) / this.speed : 0
  }
}

/** The user's tasks that are open, and those that ended while somebody watched. */
class Board {
  tasks = new SvelteMap<string, Live>()
  problem = $state<Problem | null>(null)
  #stop: AbortController | undefined

  start(): void {
    this.stop()
    const stop = new AbortController()
    this.#stop = stop
    void this.#run(stop.signal)
  }

  stop(): void {
    this.#stop?.abort()
    this.tasks.clear()
  }

  show(task: Task): void {
    const live = this.tasks.get(task.task_id)
    if (live) live.update(task)
    else this.tasks.set(task.task_id, new Live(task))
  }

  dismiss(id: string): void {
    this.tasks.delete(id)
  }

  async #run(signal: AbortSignal): Promise<void> {
    try {
      for await (const event of follow('/user/events', signal)) {
        if (event.name !== 'tasks') continue
        this.problem = null
        for (const task of (JSON.parse(event.data) as { tasks: Task[] }).tasks) {
          this.show(task)
        }
      }
    } catch (error) {
      this.problem = asProblem(error)
    }
  }
}

export const board = new Board()
