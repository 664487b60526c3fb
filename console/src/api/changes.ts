/** What operators change. Everything that is shown is asked for again afterwards. */
import { useMutation, useQueryClient } from "@tanstack/react-query"
import type { EventId, FailureId } from "clickhouse-outbox/operator-api"
import type * as Effect from "effect/Effect"
import { type Client, request } from "./client.ts"
import * as EventText from "./eventText.ts"
import type { FailureFilter } from "./queries.ts"
import { actor } from "./session.ts"

/** A mutation that invalidates every query when it ends, except the texts of events, which somebody may be editing. */
export const useChange = <Input, A>(
  change: (input: Input) => Promise<A>,
  onSuccess?: (answer: A, input: Input) => void
) => {
  const queries = useQueryClient()
  return useMutation({
    mutationFn: change,
    ...(onSuccess !== undefined && { onSuccess }),
    onSettled: () => queries.invalidateQueries({ predicate: ({ queryKey }) => queryKey[2] !== "event" })
  })
}

const send = <A, E>(use: (client: Client, headers: ReturnType<typeof actor>) => Effect.Effect<A, E>) =>
  request((client) => use(client, actor()), { isChange: true })

export const correct = (failureId: FailureId, eventId: EventId, correction: EventText.Correction) =>
  send((_, headers) => EventText.correct(failureId, eventId, headers, correction))

export const replay = (ids: ReadonlyArray<FailureId>) =>
  send((client, headers) => client.failures.replayAll({ headers, payload: { ids } }))

/** Every open failure that the filter lets through, or every open one. */
export const replayMatching = ({ state: _, ...filter }: FailureFilter) =>
  send((client, headers) =>
    client.failures.replayAll({ headers, payload: Object.keys(filter).length === 0 ? { all: true } : filter })
  )

export const replayEvent = (input: Parameters<Client["failures"]["replayEvent"]>[0]["path"]) =>
  send((client, headers) => client.failures.replayEvent({ headers, path: input }))

export const discard = (ids: ReadonlyArray<FailureId>, note: string) =>
  send((client, headers) => client.failures.discardAll({ headers, payload: { ids, note } }))

export const resolve = (id: FailureId, note: string) =>
  send((client, headers) => client.failures.resolve({ headers, path: { id }, payload: { note } }))

export const reopen = (ids: ReadonlyArray<FailureId>) =>
  send((client, headers) => client.failures.reopenAll({ headers, payload: { ids } }))

export const pause = (reason: string) => send((client, headers) => client.relay.pause({ headers, payload: { reason } }))

export const resume = () => send((client, headers) => client.relay.resume({ headers }))
