import { useNow } from "../api/now.ts"
import { age, local } from "../time.ts"

interface Props {
  readonly at: Date
  /** On one line. */
  readonly inline?: boolean
}

/** When, in the viewer's zone, and how long ago. Hovering shows UTC, which logs and colleagues elsewhere speak. */
export const Time = ({ at, inline = false }: Props) => {
  const now = useNow()
  return (
    <time className={inline ? "time inline" : "time"} dateTime={at.toISOString()} title={at.toISOString()}>
      <span className="age">{age(at, now)}</span> <span className="clock">{local(at, now)}</span>
    </time>
  )
}
