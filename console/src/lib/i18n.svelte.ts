import { en } from './locale/en'
import { ru } from './locale/ru'

export type Key = keyof typeof en
export const locales = { en: 'English', ru: 'Русский' } as const
export type Locale = keyof typeof locales

const dictionaries: Record<Locale, Record<Key, string>> = { en, ru }
const key = 'steno.locale'

class I18n {
  locale = $state<Locale>(first())

  use(locale: Locale): void {
    this.locale = locale
    localStorage.setItem(key, locale)
  }
}

function first(): Locale {
  const kept = localStorage.getItem(key)
  if (kept && kept in dictionaries) return kept as Locale
  return navigator.languages.some((l) => l.toLowerCase().startsWith('ru')) && !navigator.language.startsWith('en') ? 'ru' : 'en'
}

export const i18n = new I18n()

/** A text in the language of the page; {name} is replaced. */
export function t(name: Key, values: Record<string, string | number> = {}): string {
  return dictionaries[i18n.locale][name].replace(/\{(\w+)\}/g, (_, v: string) => String(values[v] ?? ''))
}
