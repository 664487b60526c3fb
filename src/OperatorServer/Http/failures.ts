/** The endpoints of what ClickHouse refused. */
import * as HttpApiBuilder from "@effect/platform/HttpApiBuilder"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import { BatchFailure, BatchFailures, type FailureId, toJson } from "../../BatchFailures.ts"
import * as Answer from "../Answer.ts"
import * as Schemas from "../Api/failureSchemas.ts"
import { DEFAULT_ACTOR, type Page } from "../Api/fields.ts"
import { Api } from "../Api.ts"
import * as Body from "../Body.ts"
import { heavyPage, page } from "../Page.ts"
import * as Problem from "../Problem.ts"
import { auditPage } from "./auditPage.ts"

export const failures = (ask: Answer.Ask, useLarge: Body.UseLarge) =>
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
          Effect.zipRight(
            failures.get(id),
            auditPage((page) => failures.audit(id, page), urlParams)
          ).pipe(ask)
        )
        .handleRaw("correct", ({ headers: { actor = DEFAULT_ACTOR }, path, request }) =>
          useLarge(request, (correction) =>
            ask(failures.correct(path.id, { eventId: path.event_id, correction, actor }))
          ).pipe(Effect.map(Answer.event))
        )
        .handle("replayEvent", ({ headers: { actor = DEFAULT_ACTOR }, path }) =>
          ask(failures.replayEvent(path.id, { eventId: path.event_id, actor }))
        )
        .handle("replay", ({ headers: { actor = DEFAULT_ACTOR }, path }) => ask(failures.replay(path.id, { actor })))
        .handleRaw("replayAll", ({ headers: { actor = DEFAULT_ACTOR }, request }) =>
          Body.json(Schemas.ReplayRequest)(request).pipe(
            Effect.filterOrFail(
              ({ all, ...filter }) => (all === undefined) === Object.keys(filter).length > 0,
              () =>
                Problem.make("bad-request", 'Give a filter, or {"all": true} to replay every open failure, not both')
            ),
            Effect.flatMap(({ all: _, ...filter }) => ask(failures.replayAll(filter, { actor })))
          )
        )
        .handle("arrivals", ({ urlParams: { ids } }) => ask(failures.arrivals(ids)))
        .handleRaw("discard", ({ headers: { actor = DEFAULT_ACTOR }, path, request }) =>
          Effect.flatMap(Body.json(Schemas.DiscardRequest)(request), ({ reason }) =>
            ask(failures.discard(path.id, { reason, actor }))
          )
        )
        .handleRaw("resolve", ({ headers: { actor = DEFAULT_ACTOR }, path, request }) =>
          Effect.flatMap(Body.json(Schemas.ResolveRequest)(request), ({ note }) =>
            ask(failures.resolve(path.id, { note, actor }))
          )
        )
        .handleRaw("discardAll", ({ headers: { actor = DEFAULT_ACTOR }, request }) =>
          Effect.flatMap(Body.json(Schemas.DiscardAllRequest)(request), ({ ids, reason }) =>
            ask(Effect.map(failures.discardAll(ids, { reason, actor }), (failures) => ({ failures })))
          )
        )
        .handle("reopen", ({ headers: { actor = DEFAULT_ACTOR }, path }) => ask(failures.reopen(path.id, { actor })))
        .handleRaw("reopenAll", ({ headers: { actor = DEFAULT_ACTOR }, request }) =>
          Effect.flatMap(Body.json(Schemas.ReopenAllRequest)(request), ({ ids }) =>
            ask(Effect.map(failures.reopenAll(ids, { actor }), (failures) => ({ failures })))
          )
        )
    )
  )

const eventPage = (failures: typeof BatchFailures.Service, failureId: FailureId, asked: typeof Page.Type = {}) =>
  heavyPage(
    (page) => failures.events(failureId, page),
    asked,
    ({ id }) => id,
    ({ eventContext }) => eventContext.length
  ).pipe(Effect.map(({ items, next }) => ({ events: Answer.list(items, toJson), next: JSON.stringify(next) })))
