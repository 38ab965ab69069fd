/** The part of the address after #/, such as `task/01ABC`, in its parts. */
class Route {
  parts = $state<string[]>(parse())

  constructor() {
    addEventListener('hashchange', () => (this.parts = parse()))
  }

  get page(): string {
    return this.parts[0] ?? ''
  }
}

function parse(): string[] {
  return location.hash.replace(/^#\/?/, '').split('/').filter(Boolean).map(decodeURIComponent)
}

export const route = new Route()
