import { useEffect, useId, useState } from "react"

interface Props {
  readonly label: string
  readonly value: string
  readonly onChange: (value: string) => void
  readonly placeholder?: string
  readonly inputMode?: "numeric" | "text"
  /** Offered while somebody types. */
  readonly suggestions?: ReadonlyArray<string>
}

const TYPING_PAUSE_MILLIS = 300

/** Applies itself once typing pauses. */
export const TextFilter = ({ inputMode = "text", label, onChange, placeholder, suggestions = [], value }: Props) => {
  const id = useId()
  const [typed, setTyped] = useState(value)
  useEffect(() => setTyped(value), [value])
  useEffect(() => {
    if (typed === value) return
    const timer = setTimeout(() => onChange(typed.trim()), TYPING_PAUSE_MILLIS)
    return () => clearTimeout(timer)
  })
  return (
    <div className="field">
      <label htmlFor={id}>{label}</label>
      <input
        id={id}
        value={typed}
        inputMode={inputMode}
        placeholder={placeholder}
        autoComplete="off"
        spellCheck={false}
        list={suggestions.length > 0 ? `${id}list` : undefined}
        onChange={(event) => setTyped(event.target.value)}
      />
      {suggestions.length > 0 && (
        <datalist id={`${id}list`}>
          {suggestions.map((suggestion) => (
            <option key={suggestion} value={suggestion} />
          ))}
        </datalist>
      )}
    </div>
  )
}
