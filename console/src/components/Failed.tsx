import { type ApiError, titleOf } from "../api/ApiError.ts"

interface Props {
  readonly error: ApiError
  readonly onRetry?: () => void
}

/** What went wrong, and what to do. */
export const Failed = ({ error, onRetry }: Props) => (
  <div className="failed" role="alert">
    <strong>{titleOf(error)}</strong>
    <p>{error.message}</p>
    {error._tag === "Problem" && error.issues !== undefined && error.issues.length > 0 && (
      <ul>
        {error.issues.map(({ field, reason }) => (
          <li key={field + reason}>
            {field !== "" && <code>{field}</code>} {reason}
          </li>
        ))}
      </ul>
    )}
    {onRetry !== undefined && (
      <button type="button" onClick={onRetry}>
        Try again
      </button>
    )}
  </div>
)
