/** The endpoints: each calls a service, in its turn, and answers with what that says. */
import * as HttpApiBuilder from "@effect/platform/HttpApiBuilder"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import { BatchFailure, BatchFailures, type FailureId, toJson } from "../BatchFailures.ts"
import { EventLog } from "../EventLog.ts"
import { relayId } from "../internal/relayId.ts"
import { isUnavailable } from "../internal/sqlState.ts"
import { version } from "../internal/version.ts"
import { type AuditEntry, auditToJson, DEFAULT_MINUTES, Operations } from "../Operations.ts"
import type { Page } from "../schema/columns.ts"
import { DEFAULT_ACTOR } from "./Api/fields.ts"
import { Api } from "./Api.ts"
import * as Body from "./Body.ts"
import type { Problem } from "./Problem.ts"
import * as Problems from "./Problems.ts"
import { heavyPage, json, page, toResponse } from "./pages.ts"
import * as Turns from "./Turns.ts"

/** Requests that ask ClickHouse at the same time. Slow ones are not in the way of those that ask Postgres alone. */
const CLICKHOUSE_CONCURRENCY = 2

interface Options {
  /** Requests that use Postgres at the same time. */
  readonly concurrency: number
  readonly tokenRequired: boolean
}

export const layer = ({ concurrency, tokenRequired }: Options) => {
  const inPostgres = answering(Turns.make(concurrency))
  const inClickHouse = answering(Turns.make(CLICKHOUSE_CONCURRENCY))
  return Layer.mergeAll(
    failures(inPostgres),
    outbox(inPostgres),
    relay(inPostgres),
    overview({ inPostgres, inClickHouse, tokenRequired }),
    eventLog(inClickHouse)
  )
}

/** Waits for a turn to use a database, and says what went wrong there as a problem. */
type InTurn = <A, E extends Problems.Answerable, R>(effect: Effect.Effect<A, E, R>) => Effect.Effect<A, Problem, R>

const answering =
  (inTurn: Turns.InTurn): InTurn =>
  (effect) =>
    Effect.catchAll(inTurn(effect), Problems.fail)

// What ClickHouse refused, and what to do about it.

const failures = (inPostgres: InTurn) =>
  HttpApiBuilder.group(Api, "failures", (handlers) =>
    Effect.map(BatchFailures, (failures) => {
      const useCorrection = Body.makeUseCorrection()
      return handlers
        .handle("list", ({ urlParams: { after, limit, ...filter } }) =>
          page((page) => failures.list(filter, page), { after, limit }).pipe(
            Effect.map(({ items, next }) => ({ failures: items, next })),
            inPostgres
          )
        )
        .handle("get", ({ path: { id } }) =>
          Effect.all([failures.get(id), eventPage(failures, id)]).pipe(
            Effect.map(([failure, events]) =>
              toResponse("events", events, toJson, Schema.encodeSync(BatchFailure)(failure))
            ),
            inPostgres
          )
        )
        .handle("events", ({ path: { id }, urlParams }) =>
          Effect.zipRight(failures.get(id), eventPage(failures, id, urlParams)).pipe(
            Effect.map((events) => toResponse("events", events, toJson)),
            inPostgres
          )
        )
        .handle("event", ({ path }) =>
          Effect.map(inPostgres(failures.event(path.id, path.event_id)), (event) => json(toJson(event)))
        )
        .handle("audit", ({ path: { id }, urlParams }) =>
          inPostgres(
            Effect.zipRight(
              failures.get(id),
              auditPage((page) => failures.audit(id, page), urlParams)
            )
          )
        )
        .handleRaw("correct", ({ headers: { actor = DEFAULT_ACTOR }, path, request }) =>
          useCorrection(request, (correction) =>
            inPostgres(failures.correct(path.id, { eventId: path.event_id, correction, actor }))
          ).pipe(Effect.map((event) => json(toJson(event))))
        )
        .handle("replayEvent", ({ headers: { actor = DEFAULT_ACTOR }, path }) =>
          inPostgres(failures.replayEvent(path.id, { eventId: path.event_id, actor }))
        )
        .handle("replay", ({ headers: { actor = DEFAULT_ACTOR }, path }) =>
          inPostgres(failures.replay(path.id, { actor }))
        )
        .handle("replayAll", ({ headers: { actor = DEFAULT_ACTOR }, payload: { all = false, ...filter } }) =>
          all === Object.keys(filter).length > 0
            ? Effect.fail(Problems.allOrFilter)
            : inPostgres(failures.replayAll(filter, { actor }))
        )
        .handle("arrivals", ({ urlParams: { ids } }) => inPostgres(failures.arrivals(ids)))
        .handle("discard", ({ headers: { actor = DEFAULT_ACTOR }, path, payload: { note } }) =>
          inPostgres(failures.discard(path.id, { note, actor }))
        )
        .handle("discardAll", ({ headers: { actor = DEFAULT_ACTOR }, payload: { ids, note } }) =>
          inPostgres(Effect.map(failures.discardAll(ids, { note, actor }), (failures) => ({ failures })))
        )
        .handle("resolve", ({ headers: { actor = DEFAULT_ACTOR }, path, payload: { note } }) =>
          inPostgres(failures.resolve(path.id, { note, actor }))
        )
        .handle("reopen", ({ headers: { actor = DEFAULT_ACTOR }, path }) =>
          inPostgres(failures.reopen(path.id, { actor }))
        )
        .handle("reopenAll", ({ headers: { actor = DEFAULT_ACTOR }, payload: { ids } }) =>
          inPostgres(Effect.map(failures.reopenAll(ids, { actor }), (failures) => ({ failures })))
        )
    })
  )

const eventPage = (failures: typeof BatchFailures.Service, failureId: FailureId, asked: Page<number> = {}) =>
  heavyPage(
    (page) => failures.events(failureId, page),
    asked,
    ({ eventContext }) => eventContext.length
  )

const auditPage = <E>(read: (page: Page<number>) => Effect.Effect<ReadonlyArray<AuditEntry>, E>, asked: Page<number>) =>
  heavyPage(read, asked, ({ after, before }) => before.length + after.length).pipe(
    Effect.map((entries) => toResponse("entries", entries, auditToJson))
  )

// What is where.

const outbox = (inPostgres: InTurn) =>
  HttpApiBuilder.group(Api, "outbox", (handlers) =>
    Effect.map(Operations, (operations) =>
      handlers
        .handle("status", () => inPostgres(operations.status))
        .handle("batches", ({ urlParams: { after, limit, ...filter } }) =>
          page((page) => operations.batches(filter, page), { after, limit }).pipe(
            Effect.map(({ items, next }) => ({ batches: items, next })),
            inPostgres
          )
        )
        .handle("batch", ({ path: { id } }) => inPostgres(operations.batch(id)))
        .handle("where", ({ path }) => inPostgres(operations.where(path.event_id)))
        .handle("incidents", ({ urlParams: { after, limit, ...filter } }) =>
          page((page) => operations.incidents(filter, page), { after, limit }).pipe(
            Effect.map(({ items, next }) => ({ incidents: items, next })),
            inPostgres
          )
        )
        .handle("audit", ({ urlParams }) => inPostgres(auditPage((page) => operations.audit({}, page), urlParams)))
    )
  )

// Whether its relays deliver.

const relay = (inPostgres: InTurn) =>
  HttpApiBuilder.group(Api, "relay", (handlers) =>
    Effect.map(Operations, ({ pause, relayPause, resume }) =>
      handlers
        .handle("state", () => inPostgres(Effect.map(relayPause, (paused) => ({ paused: Option.getOrNull(paused) }))))
        .handle("pause", ({ headers: { actor = DEFAULT_ACTOR }, payload: { reason } }) =>
          inPostgres(Effect.map(pause({ reason, actor }), (paused) => ({ paused })))
        )
        .handle("resume", ({ headers: { actor = DEFAULT_ACTOR } }) =>
          inPostgres(Effect.as(resume({ actor }), { paused: null }))
        )
    )
  )

// How it fares.

interface OverviewOptions {
  readonly inPostgres: InTurn
  readonly inClickHouse: InTurn
  readonly tokenRequired: boolean
}

const overview = ({ inClickHouse, inPostgres, tokenRequired }: OverviewOptions) =>
  HttpApiBuilder.group(Api, "overview", (handlers) =>
    Effect.map(Effect.all([EventLog, Operations]), ([eventLog, operations]) =>
      handlers
        .handle("session", () => Effect.succeed({ version, tokenRequired, relay: relayId }))
        .handle("overview", ({ urlParams: { minutes = DEFAULT_MINUTES, step } }) =>
          step !== undefined && (minutes * 60) / step > MAX_BUCKETS
            ? Effect.fail(Problems.tooManyBuckets(MAX_BUCKETS))
            : Effect.flatMap(Clock.currentTimeMillis, (now) =>
                inPostgres(operations.overview({ since: new Date(now - minutes * 60_000), stepSeconds: step }))
              )
        )
        // Each in a turn of its own: waiting for one database keeps nobody from the other.
        .handle("systems", () =>
          Effect.map(
            Effect.all([inClickHouse(eventLog.server), inPostgres(postgresAndRelays(operations))], { concurrency: 2 }),
            ([clickhouse, others]) => ({ clickhouse, ...others })
          )
        )
    )
  )

/** Each bucket costs, and nobody sees more of them in a chart. */
const MAX_BUCKETS = 1_000

/** One after the other, on one connection. A Postgres that does not answer the first is not asked the second. */
const postgresAndRelays = ({ postgres, relays }: typeof Operations.Service) =>
  Effect.flatMap(postgres, (postgres) =>
    Effect.when(relays, () => postgres.reachable).pipe(
      Effect.map(Option.getOrNull),
      Effect.catchIf(isUnavailable, () => Effect.succeed(null)),
      Effect.map((relays) => ({ postgres, relays }))
    )
  )

// What has arrived in ClickHouse.

const eventLog = (inClickHouse: InTurn) =>
  HttpApiBuilder.group(Api, "eventLog", (handlers) =>
    Effect.map(EventLog, (eventLog) =>
      handlers
        .handle("list", ({ urlParams: { type, ...filter } }) =>
          inClickHouse(eventLog.list({ eventType: type, ...filter }))
        )
        .handle("names", ({ urlParams: { since } }) => inClickHouse(eventLog.names(since)))
        .handle("event", ({ path, urlParams: { type, ...range } }) =>
          eventLog.find(path.event_id, { ...(type !== undefined && { eventType: type }), ...range }).pipe(
            Effect.map((events) => ({ events })),
            inClickHouse
          )
        )
    )
  )
