interface Props {
  readonly state: string
}

const TONES: Readonly<Record<string, "good" | "bad" | "busy">> = {
  delivered: "good",
  replayed: "good",
  resolved: "good",
  closed: "good",
  failed: "bad",
  open: "bad",
  blocked: "bad",
  retrying: "busy",
  leased: "busy",
  pending: "busy",
  sealed: "busy"
}

/** A state, as the API names it. The word says it; the colour repeats it. */
export const State = ({ state }: Props) => <span className={`state ${TONES[state] ?? "quiet"}`}>{state}</span>
