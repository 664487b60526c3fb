import { dismiss, useNotices } from "../notices.ts"
import { Arrivals } from "./Arrivals.tsx"
import { focus, headingAbove } from "./focus.ts"

/** A live region: a screen reader says what is added. */
export const Notices = () => (
  <div className="notices" role="status" aria-live="polite">
    {useNotices().map(({ id, replayed, text, undo }) => (
      <div className="notice" key={id}>
        <div>
          {text} {replayed !== undefined && <Arrivals ids={replayed} />}
        </div>
        {undo !== undefined && (
          <button
            type="button"
            onClick={() => {
              dismiss(id)
              focus(headingAbove(null))
              undo()
            }}
          >
            Undo
          </button>
        )}
        <button type="button" className="bare" aria-label="Dismiss" onClick={() => dismiss(id)}>
          ×
        </button>
      </div>
    ))}
  </div>
)
