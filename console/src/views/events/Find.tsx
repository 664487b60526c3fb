import { type FormEvent, useState } from "react"
import { useLocation } from "wouter"

const UUID = "[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}"

/** Opens an event by its id. */
export const Find = () => {
  const [, go] = useLocation()
  const [id, setId] = useState("")
  const submit = (event: FormEvent) => {
    event.preventDefault()
    go(`/events/${id.trim().toLowerCase()}`)
  }
  return (
    <form className="find" onSubmit={submit}>
      <label htmlFor="find">Where is event</label>
      <input
        id="find"
        required
        pattern={`\\s*${UUID}\\s*`}
        title="An event's id: a uuid"
        placeholder="its id"
        autoComplete="off"
        spellCheck={false}
        value={id}
        onChange={(event) => setId(event.target.value)}
      />
      <button type="submit">Find</button>
    </form>
  )
}
