import { useQuery } from "@tanstack/react-query"
import type { ReactNode } from "react"
import { eventNamesQuery } from "../../api/queries.ts"
import { Choice } from "../../components/Choice.tsx"
import { TextFilter } from "../../components/TextFilter.tsx"
import { TimeFilter } from "../../components/TimeFilter.tsx"
import { SPANS, type useFilter } from "./useFilter.ts"

type Props = ReturnType<typeof useFilter> & { readonly children: ReactNode }

export const Filters = ({ children, filter, set, span }: Props) => {
  const { data: names } = useQuery(eventNamesQuery)
  return (
    <search className="filters">
      <TextFilter
        label="Event type"
        value={filter.type ?? ""}
        suggestions={names?.eventTypes.map(({ name }) => name) ?? []}
        onChange={(type) => set({ type })}
      />
      <TextFilter
        label="Environment"
        value={filter.environment ?? ""}
        suggestions={names?.environments.map(({ name }) => name) ?? []}
        onChange={(environment) => set({ environment })}
      />
      <Choice label="From" value={span} options={SPANS} onChange={(span) => set({ span })} />
      {span === "time" && (
        <>
          <TimeFilter label="Since" value={filter.since} onChange={(since) => set({ since: since?.toISOString() })} />
          <TimeFilter label="Until" value={filter.until} onChange={(until) => set({ until: until?.toISOString() })} />
        </>
      )}
      {children}
    </search>
  )
}
