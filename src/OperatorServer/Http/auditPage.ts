/** A page of the audit trail, of a failure or of everything. */
import * as Effect from "effect/Effect"
import { type AuditEntry, auditToJson } from "../../Operations.ts"
import type * as Columns from "../../schema/columns.ts"
import * as Answer from "../Answer.ts"
import type { Page } from "../Api/fields.ts"
import { heavyPage } from "../Page.ts"

export const auditPage = <E>(
  read: (page: Columns.Page<number>) => Effect.Effect<ReadonlyArray<AuditEntry>, E>,
  asked: typeof Page.Type
) =>
  heavyPage(
    read,
    asked,
    ({ id }) => id,
    ({ after, before }) => before.length + after.length
  ).pipe(
    Effect.map(({ items, next }) =>
      Answer.json({}, { entries: Answer.list(items, auditToJson), next: JSON.stringify(next) })
    )
  )
