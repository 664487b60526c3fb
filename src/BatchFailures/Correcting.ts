/** Correcting an event: what it becomes has to pass the checks that it would have to pass to be published. */
import type * as SqlClient from "@effect/sql/SqlClient"
import type { SqlError } from "@effect/sql/SqlError"
import * as Arr from "effect/Array"
import * as Data from "effect/Data"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Option from "effect/Option"
import * as ParseResult from "effect/ParseResult"
import * as Predicate from "effect/Predicate"
import type { FailureId } from "../Batch.ts"
import * as Event from "../Event.ts"
import { fromRawMembers, rawMembers } from "../internal/jsonText.ts"
import { invalidData } from "../internal/sqlState.ts"
import type { Actor } from "../schema/audit.ts"
import { rowOf } from "../schema/columns.ts"
import { decodeLine, type LineRow } from "../schema/eventLine.ts"
import { constraintIssues } from "../schema/eventRow.ts"
import { CORRECTABLE, CorrectionInvalid, CorrectionIssue, FailedEvent } from "../schema/failures.ts"
import * as Locking from "./Locking.ts"
import { EVENT_COLUMNS } from "./Reading.ts"

/** What is to be changed about an event, and who wants it. */
interface Correction {
  readonly eventId: Event.EventId
  /** A JSON object with one or more of {@link CORRECTABLE}, as text, so that numbers keep their digits. */
  readonly correction: string
  readonly actor: Actor
}

/** Which row of `outbox.batch_failure_event`; its id is a bigint as text. */
interface RowKey {
  readonly failureId: FailureId
  readonly rowId: string
}

export const make = (sql: SqlClient.SqlClient) => {
  const { atomically, findEvent, lockOpen } = Locking.make(sql)

  const read = ({ failureId, rowId }: RowKey): Effect.Effect<FailedEvent, SqlError> =>
    sql`
      SELECT ${sql.literal(EVENT_COLUMNS)}
      FROM outbox.batch_failure_event AS event
      WHERE event.failure_id = ${failureId} AND event.id = ${rowId}
    `.pipe(rowOf(FailedEvent))

  /** The failure is locked. */
  const update = ({ failureId, rowId }: RowKey, row: LineRow, actor: Actor): Effect.Effect<unknown, SqlError> => sql`
    SELECT outbox.correct_event(
      ${failureId}, ${rowId}, ${row.eventType}, ${row.eventDateTime}::timestamptz, ${row.eventContext}::jsonb,
      ${row.metadataVersion}::bigint, ${actor}
    )
  `

  return {
    correct: Effect.fn("BatchFailures.correct")(function* (
      failureId: FailureId,
      { actor, correction, eventId }: Correction
    ) {
      const about = { "failure.id": failureId, "event.id": eventId }
      yield* Effect.annotateCurrentSpan(about)
      const corrected = yield* Effect.gen(function* () {
        const members = yield* readCorrection(correction)
        yield* lockOpen(failureId)
        const key = { failureId, rowId: yield* findEvent(failureId, eventId) }
        const row = yield* merge(yield* read(key), members)
        yield* checkDefinition(row)
        yield* Effect.catchAll(update(key, row, actor), (error) => Effect.fail(invalidInPostgres(error) ?? error))
        return yield* read(key)
      }).pipe(
        atomically,
        Effect.catchTag("Invalid", ({ issues }) => new CorrectionInvalid({ failureId, eventId, issues }))
      )
      yield* Effect.logInfo("Corrected a refused event").pipe(Effect.annotateLogs({ actor, ...about }))
      return corrected
    })
  }
}

/** What is wrong with a correction, before it is known which event it is for. */
class Invalid extends Data.TaggedError("Invalid")<{ readonly issues: Arr.NonEmptyReadonlyArray<CorrectionIssue> }> {}

const invalid = (field: string, reason: string) => new Invalid({ issues: [new CorrectionIssue({ field, reason })] })

/** Fails with the issues, if there are any. */
const failIfAny = (issues: ReadonlyArray<CorrectionIssue>): Effect.Effect<void, Invalid> =>
  Arr.isNonEmptyReadonlyArray(issues) ? new Invalid({ issues }) : Effect.void

const OBJECT = `a correction is a JSON object with one or more of ${CORRECTABLE.join(", ")}`

/** Each member as it is written. */
const readCorrection = (text: string): Effect.Effect<ReadonlyMap<string, string>, Invalid> =>
  Effect.gen(function* () {
    const json = yield* Effect.try({
      try: (): unknown => JSON.parse(text),
      catch: (error) => invalid("", `the correction is not JSON: ${error instanceof Error ? error.message : error}`)
    })
    if (!Predicate.isReadonlyRecord(json) || Object.keys(json).length === 0) return yield* invalid("", OBJECT)
    yield* failIfAny(
      Object.entries(json).flatMap(([field, value]) => {
        if (!CORRECTABLE.some((name) => name === field)) {
          return [new CorrectionIssue({ field, reason: `cannot be corrected; ${OBJECT}` })]
        }
        return value === null ? [new CorrectionIssue({ field, reason: "must not be null" })] : []
      })
    )
    return rawMembers(text)
  })

/** The event with its corrections, read as a line that somebody publishes: the same checks, the same words. */
const merge = (event: FailedEvent, members: ReadonlyMap<string, string>): Effect.Effect<LineRow, Invalid> => {
  const text = fromRawMembers(
    new Map([
      ["event_id", JSON.stringify(event.eventId)],
      ["event_type", JSON.stringify(event.eventType)],
      ["event_date_time", JSON.stringify(event.eventDateTime)],
      ["environment", JSON.stringify(event.environment)],
      ["metadata_version", event.metadataVersion],
      ["event_context", event.eventContext],
      ...members
    ])
  )
  return decodeLine(text, { number: 0, nowMillis: 0, environment: event.environment }).pipe(
    Either.mapLeft(Arr.map(({ field = "", reason }) => new CorrectionIssue({ field, reason }))),
    Effect.catchAll((issues) => Effect.zipRight(failIfAny(issues), invalid("", "is no event")))
  )
}

/** By the Schema that the program registered for this type and version, if it did. */
const checkDefinition = (row: LineRow): Effect.Effect<void, Invalid> =>
  Effect.gen(function* () {
    const definition = Arr.findFirst(
      yield* Event.Definitions,
      ({ eventType, metadataVersion }) => eventType === row.eventType && String(metadataVersion) === row.metadataVersion
    )
    if (Option.isNone(definition)) return
    const checked = definition.value.validate(JSON.parse(row.eventContext))
    if (Either.isRight(checked)) return
    yield* failIfAny(
      ParseResult.ArrayFormatter.formatErrorSync(checked.left).map(
        ({ message, path }) => new CorrectionIssue({ field: ["event_context", ...path].join("."), reason: message })
      )
    )
  })

/** What only Postgres can know: how much a context weighs as it writes JSON, how long a number may be. */
const invalidInPostgres = (error: SqlError): Invalid | undefined =>
  Option.getOrUndefined(
    Option.map(invalidData(error), ({ constraint = "", message }) => {
      const { field, reason } = constraintIssues[constraint] ?? { field: "", reason: message }
      return invalid(field, reason)
    })
  )
