import { Choice } from "../../components/Choice.tsx"
import { focus, headingAbove } from "../../components/focus.ts"
import { PeriodFilter } from "../../components/PeriodFilter.tsx"
import { TextFilter } from "../../components/TextFilter.tsx"
import { CLASSES, STATES, type useFilter } from "./useFilter.ts"

type Props = ReturnType<typeof useFilter>

const CLEAR = {
  state: undefined,
  class: undefined,
  code: undefined,
  type: undefined,
  span: undefined,
  since: undefined,
  until: undefined
}

export const Filters = ({ filter, isNarrowed, period, set }: Props) => (
  <search className="filters">
    <Choice
      label="State"
      value={filter.state ?? "any"}
      options={[...STATES.map((state) => [state, state] as const), ["any", "any"]]}
      onChange={(state) => set({ state })}
    />
    <TextFilter label="Event type" value={filter.eventType ?? ""} onChange={(type) => set({ type })} />
    <Choice
      label="Kind of refusal"
      value={filter.class ?? ""}
      options={[["", "any"], ...CLASSES.map((errorClass) => [errorClass, errorClass] as const)]}
      onChange={(errorClass) => set({ class: errorClass })}
    />
    <TextFilter
      label="ClickHouse code"
      inputMode="numeric"
      value={filter.code?.toString() ?? ""}
      onChange={(code) => set({ code })}
    />
    <PeriodFilter period={period} defaultName="any time" />
    {(isNarrowed || filter.state !== "open") && (
      <button
        type="button"
        className="link"
        onClick={({ currentTarget }) => {
          focus(headingAbove(currentTarget))
          set(CLEAR)
        }}
      >
        Clear
      </button>
    )}
  </search>
)
