interface Props {
  readonly what: string
}

/** Visible only after a moment, so that fast answers do not flicker. */
export const Loading = ({ what }: Props) => (
  <p className="loading" role="status">
    Loading {what}…
  </p>
)
