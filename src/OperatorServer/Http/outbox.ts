/** The endpoints of where everything is. */
import * as HttpApiBuilder from "@effect/platform/HttpApiBuilder"
import * as Effect from "effect/Effect"
import { Operations } from "../../Operations.ts"
import type { Ask } from "../Answer.ts"
import { Api } from "../Api.ts"
import { page } from "../Page.ts"
import { auditPage } from "./auditPage.ts"

export const outbox = (ask: Ask) =>
  HttpApiBuilder.group(Api, "outbox", (handlers) =>
    Effect.map(Operations, (operations) =>
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
        .handle("audit", ({ urlParams }) => ask(auditPage((page) => operations.audit({}, page), urlParams)))
    )
  )
