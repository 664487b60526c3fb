import { useQuery } from "@tanstack/react-query"
import type { ReactNode } from "react"
import { eventNamesQuery } from "../../api/queries.ts"
import { PeriodFilter } from "../../components/PeriodFilter.tsx"
import { TextFilter } from "../../components/TextFilter.tsx"
import type { useFilter } from "./useFilter.ts"

type Props = ReturnType<typeof useFilter> & { readonly children: ReactNode }

export const Filters = ({ children, filter, period, set }: Props) => {
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
      <PeriodFilter period={period} defaultName="the last hour" />
      {children}
    </search>
  )
}
