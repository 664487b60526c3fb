interface Props {
  readonly what: string
}

/** It becomes visible only after a moment, so that what comes at once does not flicker. */
export const Loading = ({ what }: Props) => (
  <p className="loading" role="status">
    Loading {what}…
  </p>
)
