/** A page of the audit trail, of a failure or of everything. */
import * as Effect from "effect/Effect"
import { auditToJson, type BatchFailures } from "../../BatchFailures.ts"
import * as Answer from "../Answer.ts"
import type { Page } from "../Api/fields.ts"
import { heavyPage } from "../Page.ts"

type Failures = typeof BatchFailures.Service

export const auditPage = (failures: Failures, filter: Parameters<Failures["audit"]>[0], asked: typeof Page.Type) =>
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
