export const themes = ['auto', 'light', 'dark'] as const
export type Theme = (typeof themes)[number]

const key = 'steno.theme'

class Colours {
  theme = $state<Theme>((localStorage.getItem(key) as Theme | null) ?? 'auto')

  constructor() {
    this.#show()
  }

  use(theme: Theme): void {
    this.theme = theme
    localStorage.setItem(key, theme)
    this.#show()
  }

  #show(): void {
    document.documentElement.dataset['theme'] = this.theme
  }
}

export const colours = new Colours()
