/** Seconds as 1:02:03, or 2:03 where there are no hours. */
export function clock(seconds: number): string {
  const s = Math.max(0, Math.floor(seconds))
  const rest = `${String(Math.floor(s / 60) % 60).padStart(s < 3600 ? 1 : 2, '0')}:${String(s % 60).padStart(2, '0')}`
  return s < 3600 ? rest : `${Math.floor(s / 3600)}:${rest}`
}

/** Bytes with a unit that keeps the number short. */
export function size(bytes: number, locale: string): string {
  const units = ['byte', 'kilobyte', 'megabyte', 'gigabyte']
  let n = bytes
  let unit = 0
  for (; n >= 1000 && unit < units.length - 1; unit++) n /= 1000
  return new Intl.NumberFormat(locale, {
    style: 'unit', unit: units[unit]!, unitDisplay: 'short', maximumFractionDigits: n < 10 && unit > 0 ? 1 : 0,
  }).format(n)
}

/** A moment, as short as its day allows. */
export function moment(iso: string, locale: string): string {
  const at = new Date(iso)
  const today = at.toDateString() === new Date().toDateString()
  return new Intl.DateTimeFormat(locale, today ? { timeStyle: 'short' } : { dateStyle: 'medium', timeStyle: 'short' }).format(at)
}
