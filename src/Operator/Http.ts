/** The endpoints: each asks a service, and answers with what that says. */
import * as HttpApiBuilder from "@effect/platform/HttpApiBuilder"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import { auditToJson, BatchFailure, BatchFailures, type FailureId, toJson } from "../BatchFailures.ts"
import { Operations } from "../Operations.ts"
import * as Answer from "./Answer.ts"
import { Api } from "./Api.ts"
import * as Body from "./Body.ts"
import { eventLog, overview } from "./Look.ts"
import { heavyPage, page } from "./Page.ts"
import * as Problem from "./Problem.ts"
import * as Wire from "./Wire.ts"

type Failures = typeof BatchFailures.Service

/** Who asks, where nobody is named. */
const API = "api"

const failures = (ask: Answer.Ask, useLarge: Body.UseLarge) =>
  HttpApiBuilder.group(Api, "failures", (handlers) =>
    Effect.map(BatchFailures, (failures) =>
      handlers
        .handle("list", ({ urlParams: { after, limit, ...filter } }) =>
          page(
            (page) => failures.list(filter, page),
            { after, limit },
            ({ id }) => id
          ).pipe(
            Effect.map(({ items, next }) => ({ failures: items, next })),
            ask
          )
        )
        .handle("get", ({ path: { id } }) =>
          Effect.all([failures.get(id), eventPage(failures, id)]).pipe(
            Effect.map(([failure, events]) => Answer.json(Schema.encodeSync(BatchFailure)(failure), events)),
            ask
          )
        )
        .handle("events", ({ path: { id }, urlParams }) =>
          Effect.zipRight(failures.get(id), eventPage(failures, id, urlParams)).pipe(
            Effect.map((events) => Answer.json({}, events)),
            ask
          )
        )
        .handle("event", ({ path }) => Effect.map(ask(failures.event(path.id, path.event_id)), Answer.event))
        .handle("audit", ({ path: { id }, urlParams }) =>
          Effect.zipRight(failures.get(id), auditPage(failures, { failureId: id }, urlParams)).pipe(ask)
        )
        .handleRaw("correct", ({ headers: { actor = API }, path, request }) =>
          useLarge(request, (correction) => ask(failures.correct(path.id, path.event_id, correction, actor))).pipe(
            Effect.map(Answer.event)
          )
        )
        .handle("replayEvent", ({ headers: { actor = API }, path }) =>
          ask(failures.replayEvent(path.id, path.event_id, actor))
        )
        .handle("replay", ({ headers: { actor = API }, path }) => ask(failures.replay(path.id, actor)))
        .handleRaw("replayAll", ({ headers: { actor = API }, request }) =>
          Body.json(Wire.ReplayRequest)(request).pipe(
            Effect.filterOrFail(
              ({ all, ...filter }) => (all === undefined) === Object.keys(filter).length > 0,
              () =>
                Problem.make("bad-request", 'Give a filter, or {"all": true} to replay every open failure, not both')
            ),
            Effect.flatMap(({ all: _, ...filter }) => ask(failures.replayAll(filter, actor)))
          )
        )
        .handleRaw("discard", ({ headers: { actor = API }, path, request }) =>
          Effect.flatMap(Body.json(Wire.DiscardRequest)(request), ({ reason }) =>
            ask(failures.discard(path.id, reason, actor))
          )
        )
        .handleRaw("resolve", ({ headers: { actor = API }, path, request }) =>
          Effect.flatMap(Body.json(Wire.ResolveRequest)(request), ({ note }) =>
            ask(failures.resolve(path.id, note, actor))
          )
        )
        .handleRaw("discardAll", ({ headers: { actor = API }, request }) =>
          Effect.flatMap(Body.json(Wire.DiscardAllRequest)(request), ({ ids, reason }) =>
            ask(Effect.map(failures.discardAll(ids, reason, actor), (failures) => ({ failures })))
          )
        )
        .handle("reopen", ({ headers: { actor = API }, path }) => ask(failures.reopen(path.id, actor)))
        .handleRaw("reopenAll", ({ headers: { actor = API }, request }) =>
          Effect.flatMap(Body.json(Wire.ReopenAllRequest)(request), ({ ids }) =>
            ask(Effect.map(failures.reopenAll(ids, actor), (failures) => ({ failures })))
          )
        )
    )
  )

type Asked = typeof Wire.Page.Type

const eventPage = (failures: Failures, failureId: FailureId, asked: Asked = {}) =>
  heavyPage(
    (page) => failures.events(failureId, page),
    asked,
    ({ id }) => id,
    ({ eventContext }) => eventContext.length
  ).pipe(Effect.map(({ items, next }) => ({ events: Answer.list(items, toJson), next: JSON.stringify(next) })))

const auditPage = (failures: Failures, filter: Parameters<Failures["audit"]>[0], asked: Asked) =>
  heavyPage(
    (page) => failures.audit(filter, page),
    asked,
    ({ id }) => id,
    ({ after, before }) => before.length + after.length
  ).pipe(
    Effect.map(({ items, next }) =>
      Answer.json({}, { entries: Answer.list(items, auditToJson), next: JSON.stringify(next) })
    )
  )

const outbox = (ask: Answer.Ask) =>
  HttpApiBuilder.group(Api, "outbox", (handlers) =>
    Effect.map(Effect.all([BatchFailures, Operations]), ([failures, operations]) =>
      handlers
        .handle("status", () => ask(operations.status))
        .handle("batches", ({ urlParams: { after, limit, ...filter } }) =>
          page(
            (page) => operations.batches(filter, page),
            { after, limit },
            ({ id }) => id
          ).pipe(
            Effect.map(({ items, next }) => ({ batches: items, next })),
            ask
          )
        )
        .handle("batch", ({ path: { id } }) => ask(operations.batch(id)))
        .handle("where", ({ path }) => ask(operations.where(path.event_id)))
        .handle("incidents", ({ urlParams: { after, limit, ...filter } }) =>
          page(
            (page) => operations.incidents(filter, page),
            { after, limit },
            ({ id }) => id
          ).pipe(
            Effect.map(({ items, next }) => ({ incidents: items, next })),
            ask
          )
        )
        .handle("audit", ({ urlParams }) => ask(auditPage(failures, {}, urlParams)))
    )
  )

const relay = (ask: Answer.Ask) =>
  HttpApiBuilder.group(Api, "relay", (handlers) =>
    Effect.map(Operations, ({ hold, relayHold, resume }) =>
      handlers
        .handle("state", () => ask(Effect.map(relayHold, (held) => ({ held: Option.getOrNull(held) }))))
        .handleRaw("hold", ({ headers: { actor = API }, request }) =>
          Effect.flatMap(Body.json(Wire.HoldRequest)(request), ({ reason }) =>
            ask(Effect.map(hold(reason, actor), (held) => ({ held })))
          )
        )
        .handle("resume", ({ headers: { actor = API } }) => ask(Effect.as(resume(actor), { held: null })))
    )
  )

/** Requests that ask ClickHouse at the same time: slow ones are in the way of none that asks Postgres alone. */
const CLICKHOUSE_CONCURRENCY = 2

/** @param concurrency requests that use Postgres at the same time */
export const layer = (concurrency: number, tokenRequired: boolean) =>
  Layer.unwrapEffect(
    Effect.gen(function* () {
      const ask = atATime(yield* Effect.makeSemaphore(concurrency))
      const askClickHouse = atATime(yield* Effect.makeSemaphore(CLICKHOUSE_CONCURRENCY))
      return Layer.mergeAll(
        failures(ask, yield* Body.makeLarge),
        outbox(ask),
        relay(ask),
        overview(ask, askClickHouse, tokenRequired),
        eventLog(askClickHouse)
      )
    })
  )

const atATime =
  (turns: Effect.Semaphore): Answer.Ask =>
  (effect) =>
    Effect.catchAll(turns.withPermits(1)(effect), Answer.toProblem)
