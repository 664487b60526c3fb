import { dismiss, useNotices } from "../notices.ts"

/** A live region: a screen reader says what is added. */
export const Notices = () => (
  <div className="notices" role="status" aria-live="polite">
    {useNotices().map(({ id, text, undo }) => (
      <div className="notice" key={id}>
        <span>{text}</span>
        {undo !== undefined && (
          <button
            type="button"
            onClick={() => {
              dismiss(id)
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
