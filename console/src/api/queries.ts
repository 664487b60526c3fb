/** The queries of all views: their keys, and how often they are repeated. */
import { infiniteQueryOptions, keepPreviousData, queryOptions } from "@tanstack/react-query"
import { BatchId, type EventCursor, type EventId, FailureId } from "clickhouse-outbox/operator-api"
import * as Duration from "effect/Duration"
import type * as Effect from "effect/Effect"
import * as AuditText from "./auditText.ts"
import { type Client, request } from "./client.ts"
import * as EventText from "./eventText.ts"
import { LIST_MILLIS, LIVE_MILLIS } from "./queryClient.ts"

type Params<Method extends (request: never) => unknown> = Parameters<Method>[0] extends { readonly urlParams: infer P }
  ? P
  : never

/** Each page is a request of its own, so a list that was read further than this is no longer refreshed. */
const REFRESHED_PAGES = 4

const SESSION_MILLIS = 60_000

/** Live numbers without an answer for this long are shown as old. */
const LIVE_TIMEOUT = Duration.seconds(6)

interface Listed {
  readonly state: { readonly data: { readonly pages: ReadonlyArray<unknown> } | undefined }
}

const refresh =
  (millis: number) =>
  ({ state }: Listed) =>
    (state.data?.pages.length ?? 0) > REFRESHED_PAGES ? (false as const) : millis

/** What every list has in common. */
const paged = { placeholderData: keepPreviousData, refetchInterval: refresh(LIST_MILLIS) } as const

const none = <A>(): A | undefined => undefined

/** A list that is read page by page, newest first. */
const pages = <A extends { readonly next: number | null }, E>(
  key: ReadonlyArray<unknown>,
  get: (client: Client, after: number | undefined) => Effect.Effect<A, E>
) =>
  infiniteQueryOptions({
    ...paged,
    queryKey: key,
    queryFn: ({ pageParam, signal }) => request((client) => get(client, pageParam), { signal }),
    initialPageParam: none<number>(),
    getNextPageParam: ({ next }: A) => next ?? undefined
  })

/** A list's next page, if it is not the first. */
const after = <Key>(key: Key | undefined): { after?: Key } => (key === undefined ? {} : { after: key })

export const overviewQuery = (urlParams: Params<Client["overview"]["overview"]>) =>
  queryOptions({
    queryKey: ["overview", urlParams],
    queryFn: ({ signal }) =>
      request((client) => client.overview.overview({ urlParams }), { signal, timeout: LIVE_TIMEOUT }),
    placeholderData: keepPreviousData,
    refetchInterval: LIVE_MILLIS
  })

export const statusQuery = queryOptions({
  queryKey: ["status"],
  queryFn: ({ signal }) => request((client) => client.outbox.status(), { signal, timeout: LIVE_TIMEOUT }),
  refetchInterval: LIVE_MILLIS
})

/** Who asks. It changes with the server's configuration, and with who signs in. */
export const sessionQuery = queryOptions({
  queryKey: ["session"],
  queryFn: ({ signal }) => request((client) => client.overview.session(), { signal }),
  refetchInterval: SESSION_MILLIS
})

export const systemsQuery = queryOptions({
  queryKey: ["systems"],
  queryFn: ({ signal }) => request((client) => client.overview.systems(), { signal, timeout: LIVE_TIMEOUT }),
  refetchInterval: LIVE_MILLIS
})

export type FailureFilter = Omit<Params<Client["failures"]["list"]>, "after" | "limit">

/** Refreshed as often as the header, which counts them. */
export const failuresQuery = (filter: FailureFilter) => ({
  ...pages(["failures", filter], (client, key) =>
    client.failures.list({
      urlParams: { ...filter, ...after(key === undefined ? undefined : FailureId.make(key)) }
    })
  ),
  refetchInterval: refresh(LIVE_MILLIS)
})

export const failureQuery = (id: FailureId) =>
  queryOptions({
    queryKey: ["failure", id],
    queryFn: ({ signal }) => request((client) => client.failures.get({ path: { id } }), { signal }),
    refetchInterval: LIST_MILLIS
  })

/** Repeated until all have arrived and not after that: counting them reads the whole outbox. */
export const arrivalsQuery = (ids: ReadonlyArray<FailureId>) =>
  queryOptions({
    queryKey: ["arrivals", ids],
    queryFn: ({ signal }) => request((client) => client.failures.arrivals({ urlParams: { ids } }), { signal }),
    refetchInterval: ({ state }) => (state.data?.pending === 0 ? false : LIVE_MILLIS)
  })

export const failureEventsQuery = (id: FailureId) =>
  pages(["failure", id, "events"], (client, key) => client.failures.events({ path: { id }, urlParams: after(key) }))

/** Fetched once: somebody may be writing a correction of it. */
export const failureEventQuery = (id: FailureId, eventId: EventId) =>
  queryOptions({
    queryKey: ["failure", id, "event", eventId],
    queryFn: ({ signal }) => request(() => EventText.get(id, eventId), { signal }),
    staleTime: Number.POSITIVE_INFINITY
  })

export const failureAuditQuery = (id: FailureId) =>
  pages(["failure", id, "audit"], (_, key) =>
    AuditText.get((client) => client.failures.audit({ path: { id }, urlParams: after(key) }))
  )

export const auditQuery = pages(["audit"], (_, key) =>
  AuditText.get((client) => client.outbox.audit({ urlParams: after(key) }))
)

export type BatchFilter = Omit<Params<Client["outbox"]["batches"]>, "after" | "limit">

export const batchesQuery = (filter: BatchFilter) =>
  pages(["batches", filter], (client, key) =>
    client.outbox.batches({
      urlParams: { ...filter, ...after(key === undefined ? undefined : BatchId.make(key)) }
    })
  )

export const batchQuery = (id: BatchId) =>
  queryOptions({
    queryKey: ["batch", id],
    queryFn: ({ signal }) => request((client) => client.outbox.batch({ path: { id } }), { signal }),
    refetchInterval: LIST_MILLIS
  })

export type IncidentFilter = Omit<Params<Client["outbox"]["incidents"]>, "after" | "limit">

export const incidentsQuery = (filter: IncidentFilter) =>
  pages(["incidents", filter], (client, key) => client.outbox.incidents({ urlParams: { ...filter, ...after(key) } }))

export type EventFilter = Omit<Params<Client["eventLog"]["list"]>, "before" | "limit">

export const eventLogQuery = (filter: EventFilter) =>
  infiniteQueryOptions({
    ...paged,
    queryKey: ["event-log", filter],
    queryFn: ({ pageParam: before, signal }) =>
      request((client) => client.eventLog.list({ urlParams: { ...filter, ...(before !== undefined && { before }) } }), {
        signal
      }),
    initialPageParam: none<EventCursor>(),
    getNextPageParam: ({ next }) => next ?? undefined
  })

export const eventNamesQuery = queryOptions({
  queryKey: ["event-log", "names"],
  queryFn: ({ signal }) => request((client) => client.eventLog.names({ urlParams: {} }), { signal }),
  staleTime: 60_000
})

/** Where an event is in the outbox and in failures. */
export const whereQuery = (eventId: EventId) =>
  queryOptions({
    queryKey: ["where", eventId],
    queryFn: ({ signal }) => request((client) => client.outbox.where({ path: { event_id: eventId } }), { signal }),
    refetchInterval: LIVE_MILLIS
  })

export type Hints = Params<Client["eventLog"]["event"]>

/** Its rows in ClickHouse. */
export const loggedEventQuery = (eventId: EventId, hints: Hints = {}) =>
  queryOptions({
    queryKey: ["logged", eventId, hints],
    queryFn: ({ signal }) =>
      request((client) => client.eventLog.event({ path: { event_id: eventId }, urlParams: hints }), { signal })
  })
