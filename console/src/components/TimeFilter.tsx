import { useId } from "react"
import { fromInput, toInput, zone } from "../time.ts"

interface Props {
  readonly label: string
  readonly value: Date | undefined
  readonly onChange: (value: Date | undefined) => void
}

export const TimeFilter = ({ label, onChange, value }: Props) => {
  const id = useId()
  return (
    <div className="field">
      <label htmlFor={id}>
        {label} <span className="quiet">({zone(value ?? new Date())})</span>
      </label>
      <input
        id={id}
        type="datetime-local"
        step={1}
        value={value === undefined ? "" : toInput(value)}
        onChange={(event) => onChange(fromInput(event.target.value))}
      />
    </div>
  )
}
