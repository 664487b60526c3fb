import { GIVEN, type usePeriod } from "../api/usePeriod.ts"
import { Choice } from "./Choice.tsx"
import { TimeFilter } from "./TimeFilter.tsx"

interface Props {
  readonly period: ReturnType<typeof usePeriod>
  /** The name of the default period. */
  readonly defaultName: string
}

const SPANS = [
  ["60", "the last hour"],
  ["1440", "the last 24 hours"],
  ["10080", "the last 7 days"],
  ["43200", "the last 30 days"],
  [GIVEN, "a time…"]
] as const

export const PeriodFilter = ({ defaultName, period: { between, set, span } }: Props) => (
  <>
    <Choice
      label="From"
      value={span}
      options={[["", defaultName], ...SPANS.filter(([, text]) => text !== defaultName)]}
      onChange={(span) => set({ span, ...(span !== GIVEN && { since: undefined, until: undefined }) })}
    />
    {span === GIVEN && (
      <>
        <TimeFilter label="Since" value={between.since} onChange={(since) => set({ since: since?.toISOString() })} />
        <TimeFilter label="Until" value={between.until} onChange={(until) => set({ until: until?.toISOString() })} />
      </>
    )}
  </>
)
