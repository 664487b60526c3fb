/** What operators change. Everything that is shown is asked for again afterwards. */
import { useMutation, useQueryClient } from "@tanstack/react-query"
import type { EventId, FailureId } from "clickhouse-outbox/operator-api"
import type * as Effect from "effect/Effect"
import { ask, type Client } from "./client.ts"
import * as EventText from "./eventText.ts"
import type { FailureFilter } from "./queries.ts"
import { actor } from "./session.ts"

/** A mutation after which no answer is taken for current, except the texts that somebody may be editing. */
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

const asked = <A, E>(use: (client: Client, headers: ReturnType<typeof actor>) => Effect.Effect<A, E>) =>
  ask((client) => use(client, actor()), { isChange: true })

export const correct = (failureId: FailureId, eventId: EventId, correction: EventText.Correction) =>
  asked((_, headers) => EventText.correct(failureId, eventId, headers, correction))

export const replay = (ids: ReadonlyArray<FailureId>) =>
  asked((client, headers) => client.failures.replayAll({ headers, payload: { ids } }))

/** Every open failure that the filter lets through, or every open one. */
export const replayMatching = ({ state: _, ...filter }: FailureFilter) =>
  asked((client, headers) =>
    client.failures.replayAll({ headers, payload: Object.keys(filter).length === 0 ? { all: true } : filter })
  )

export const replayEvent = (input: Parameters<Client["failures"]["replayEvent"]>[0]["path"]) =>
  asked((client, headers) => client.failures.replayEvent({ headers, path: input }))

export const discard = (ids: ReadonlyArray<FailureId>, reason: string) =>
  asked((client, headers) => client.failures.discardAll({ headers, payload: { ids, reason } }))

export const resolve = (id: FailureId, note: string) =>
  asked((client, headers) => client.failures.resolve({ headers, path: { id }, payload: { note } }))

export const reopen = (ids: ReadonlyArray<FailureId>) =>
  asked((client, headers) => client.failures.reopenAll({ headers, payload: { ids } }))

export const pause = (reason: string) =>
  asked((client, headers) => client.relay.pause({ headers, payload: { reason } }))

export const resume = () => asked((client, headers) => client.relay.resume({ headers }))
