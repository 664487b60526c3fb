import { Link } from "wouter"
import { isCorrected } from "../../api/left.ts"
import { State } from "../../components/State.tsx"
import { Time } from "../../components/Time.tsx"
import { count } from "../../numbers.ts"
import type { Failure } from "./model.ts"

interface Props {
  readonly failures: ReadonlyArray<Failure>
  readonly selected: ReadonlySet<number>
  /** Where nothing can be done with what is selected, nothing is. */
  readonly onSelect: ((selected: ReadonlySet<number>) => void) | undefined
}

/** The column beside it has the code. */
const PREFIX = /^Code: \d+\. DB::Exception: /

const toggled = (selected: ReadonlySet<number>, id: number): ReadonlySet<number> => {
  const next = new Set(selected)
  if (!next.delete(id)) next.add(id)
  return next
}

export const Table = ({ failures, onSelect, selected }: Props) => {
  const open = failures.filter(({ state }) => state === "open").map(({ id }) => id)
  const areAll = open.length > 0 && open.every((id) => selected.has(id))
  return (
    <table className="list">
      <thead>
        <tr>
          {onSelect !== undefined && (
            <th scope="col" className="check">
              <input
                type="checkbox"
                aria-label="Select all open failures shown"
                checked={areAll}
                disabled={open.length === 0}
                onChange={() => onSelect(new Set(areAll ? [] : open))}
              />
            </th>
          )}
          <th scope="col">Failure</th>
          <th scope="col">Events</th>
          <th scope="col">What ClickHouse said</th>
          <th scope="col">Last seen</th>
        </tr>
      </thead>
      <tbody>
        {failures.map((failure) => (
          <tr key={failure.id} className={selected.has(failure.id) ? "selected" : undefined}>
            {onSelect !== undefined && (
              <td className="check">
                {failure.state === "open" && (
                  <input
                    type="checkbox"
                    aria-label={`Select failure ${failure.id}`}
                    checked={selected.has(failure.id)}
                    onChange={() => onSelect(toggled(selected, failure.id))}
                  />
                )}
              </td>
            )}
            <th scope="row">
              <Link href={`/failures/${failure.id}`} className="row">
                #{failure.id}
              </Link>{" "}
              <State state={failure.state} />
              {failure.state === "open" && failure.correctedCount > 0 && (
                <>
                  {" "}
                  <span className="state good">
                    {isCorrected(failure) ? "corrected" : `${failure.correctedCount} corrected`}
                  </span>
                </>
              )}
            </th>
            <td data-label="Events" className="events">
              <span className="types">{failure.eventTypes.join(", ")}</span>
              {failure.eventCount > 1 && <span className="quiet">{count(failure.eventCount, "event")}</span>}
            </td>
            <td data-label="Reason">
              <div className="message">
                <span className="code">
                  {failure.errorClass} {failure.code}
                </span>{" "}
                {failure.message.replace(PREFIX, "")}
              </div>
            </td>
            <td data-label="Last seen">
              <Time at={failure.lastSeenAt} />
            </td>
          </tr>
        ))}
      </tbody>
    </table>
  )
}
