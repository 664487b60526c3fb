/** Correcting an event: what it becomes has to pass the checks that it would have to pass to be published. */
import type * as SqlClient from "@effect/sql/SqlClient"
import type { SqlError } from "@effect/sql/SqlError"
import * as Arr from "effect/Array"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Option from "effect/Option"
import * as ParseResult from "effect/ParseResult"
import * as Predicate from "effect/Predicate"
import { decodeLine, type LineRow } from "../Event/lineRow.ts"
import { constraintIssues } from "../Event/row.ts"
import * as Event from "../Event.ts"
import { fromRawMembers, rawMembers } from "../internal/rawMembers.ts"
import { invalidData } from "../Postgres.ts"
import { change, findEvent, lockOpen } from "./lock.ts"
import {
  CorrectionInvalid,
  CorrectionIssue,
  type EventReplayed,
  type FailedEvent,
  type FailedEventNotFound,
  type FailureClosed,
  type FailureId,
  type FailureNotFound
} from "./model.ts"
import { decodeEvents, eventColumns } from "./read.ts"

/**
 * What can be corrected.
 *
 * @since 0.1.0
 * @category models
 */
export const CORRECTABLE = ["event_type", "event_date_time", "event_context", "metadata_version"] as const

export const correct =
  (sql: SqlClient.SqlClient) =>
  (
    failureId: FailureId,
    eventId: string,
    correction: string,
    actor: string
  ): Effect.Effect<
    FailedEvent,
    CorrectionInvalid | FailureNotFound | FailureClosed | FailedEventNotFound | EventReplayed | SqlError
  > =>
    Effect.gen(function* () {
      const invalid = (issues: Issues) => new CorrectionInvalid({ failureId, eventId, issues })
      const members = yield* Effect.mapError(readCorrection(correction), invalid)
      yield* lockOpen(sql, failureId)
      const id = yield* findEvent(sql, failureId, eventId)
      const before = yield* readEvent(sql, failureId, id)
      const row = yield* Effect.mapError(merge(before, members), invalid)
      yield* Effect.mapError(holdAgainstDefinition(row), invalid)
      yield* update(sql, failureId, id, row, actor).pipe(
        Effect.catchAll((error) => Effect.fail(refusedByPostgres(error, invalid) ?? error))
      )
      return yield* readEvent(sql, failureId, id)
    }).pipe(
      change(sql),
      Effect.tap(
        Effect.logInfo("Corrected a refused event").pipe(
          Effect.annotateLogs({ actor, "failure.id": failureId, "event.id": eventId })
        )
      ),
      Effect.withSpan("BatchFailures.correct", { attributes: { "failure.id": failureId, "event.id": eventId } })
    )

type Issues = Arr.NonEmptyReadonlyArray<CorrectionIssue>

const issue = (field: string, reason: string) => new CorrectionIssue({ field, reason })

/** Each member as it is written. */
const readCorrection = (text: string): Effect.Effect<ReadonlyMap<string, string>, Issues> =>
  Effect.gen(function* () {
    const json = yield* Effect.try({
      try: (): unknown => JSON.parse(text),
      catch: (error): Issues => [
        issue("", `the correction is not JSON: ${error instanceof Error ? error.message : error}`)
      ]
    })
    if (!Predicate.isReadonlyRecord(json)) return yield* Effect.fail<Issues>([issue("", OBJECT)])
    const problems = Object.entries(json).flatMap(([field, value]) => {
      if (!CORRECTABLE.some((name) => name === field)) return [issue(field, `cannot be corrected; ${OBJECT}`)]
      return value === null ? [issue(field, "must not be null")] : []
    })
    if (Arr.isNonEmptyArray(problems)) return yield* Effect.fail(problems)
    if (Object.keys(json).length === 0) return yield* Effect.fail<Issues>([issue("", OBJECT)])
    return rawMembers(text)
  })

const OBJECT = `a correction is a JSON object with one or more of ${CORRECTABLE.join(", ")}`

const readEvent = (sql: SqlClient.SqlClient, failureId: FailureId, id: string): Effect.Effect<FailedEvent, SqlError> =>
  sql`
    SELECT ${sql.literal(eventColumns)}
    FROM outbox.batch_failure_event AS event
    WHERE event.failure_id = ${failureId} AND event.id = ${id}
  `.pipe(
    Effect.flatMap(decodeEvents),
    Effect.flatMap((events) => Effect.orDie(Arr.head(events)))
  )

/** The event with its corrections, read as a line that somebody publishes: the same checks, the same words. */
const merge = (event: FailedEvent, members: ReadonlyMap<string, string>): Effect.Effect<LineRow, Issues> => {
  const fields = new Map([
    ["event_id", JSON.stringify(event.eventId)],
    ["event_type", JSON.stringify(event.eventType)],
    ["event_date_time", JSON.stringify(event.eventDateTime)],
    ["environment", JSON.stringify(event.environment)],
    ["metadata_version", event.metadataVersion],
    ["event_context", event.eventContext],
    ...members
  ])
  const text = fromRawMembers(fields)
  return decodeLine(
    { number: 0, bytes: Option.some(Buffer.from(text)) },
    { nowMillis: 0, environment: event.environment }
  ).pipe(
    Either.mapLeft(Arr.map(({ field = "", reason }) => issue(field, reason))),
    Either.mapLeft((issues): Issues => (Arr.isNonEmptyArray(issues) ? issues : [issue("", "is no event")]))
  )
}

/** The Schema that the program registered for this type and version, if it did. */
const holdAgainstDefinition = (row: LineRow): Effect.Effect<void, Issues> =>
  Effect.gen(function* () {
    const definition = Arr.findFirst(
      yield* Event.Definitions,
      ({ eventType, metadataVersion }) => eventType === row.eventType && String(metadataVersion) === row.metadataVersion
    )
    const wrong = yield* Effect.option(
      Effect.flatMap(definition, ({ validate }) => Either.flip(validate(JSON.parse(row.eventContext))))
    )
    if (wrong._tag === "None") return
    const issues = ParseResult.ArrayFormatter.formatErrorSync(wrong.value).map(({ message, path }) =>
      issue(["event_context", ...path].join("."), message)
    )
    if (Arr.isNonEmptyArray(issues)) return yield* Effect.fail<Issues>(issues)
  })

/** The failure is locked. What was and what is are compared here, so that the trail has what Postgres stored. */
const update = (
  sql: SqlClient.SqlClient,
  failureId: FailureId,
  id: string,
  row: LineRow,
  actor: string
): Effect.Effect<unknown, SqlError> => {
  const columns = sql.literal(
    `jsonb_build_object(${CORRECTABLE.map((name) => `'${name}', event.${name}`).join(", ")}) AS columns`
  )
  return sql`
    WITH before AS (
      SELECT ${columns}, corrected_at
      FROM outbox.batch_failure_event AS event
      WHERE failure_id = ${failureId} AND id = ${id}
    ),
    correction AS (
      SELECT
        ${row.eventType} AS event_type,
        ${row.eventDateTime}::timestamptz AS event_date_time,
        ${row.eventContext}::jsonb AS event_context,
        ${row.metadataVersion}::bigint AS metadata_version
    ),
    becomes AS (
      SELECT ${columns} FROM correction AS event
    ),
    refused AS (
      -- What ClickHouse refused: what each column was changed from first. Of a key that comes twice the last one stays.
      SELECT
        before.columns || (
          SELECT coalesce(jsonb_object_agg(key, value ORDER BY audit.id DESC), '{}')
          FROM outbox.audit, jsonb_each(audit.before)
          WHERE audit.failure_id = ${failureId}
            AND audit.event_id = ${row.eventId}::uuid
            AND audit.action = 'correct'
            AND before.columns ? key
        ) AS columns
      FROM before
    ),
    updated AS (
      UPDATE outbox.batch_failure_event AS event SET
        event_type = correction.event_type,
        event_date_time = correction.event_date_time,
        event_context = correction.event_context,
        context_bytes = octet_length(correction.event_context::text),
        metadata_version = correction.metadata_version,
        -- A correction that was taken back is none.
        corrected_at = CASE WHEN becomes.columns <> refused.columns THEN clock_timestamp() END
      FROM correction, becomes, refused
      WHERE event.failure_id = ${failureId} AND event.id = ${id}
    ),
    changed AS (
      SELECT key, was.value AS before, became.value AS after
      FROM before, becomes, jsonb_each(before.columns) AS was JOIN jsonb_each(becomes.columns) AS became USING (key)
      WHERE was.value <> became.value
      UNION ALL
      SELECT 'corrected_at', to_jsonb(before.corrected_at), 'null'
      FROM before, becomes, refused
      WHERE before.corrected_at IS NOT NULL AND becomes.columns = refused.columns
    )
    INSERT INTO outbox.audit (actor, action, failure_id, event_id, before, after)
    SELECT
      ${actor}, 'correct', ${failureId}, ${row.eventId}::uuid,
      coalesce(jsonb_object_agg(key, before), '{}'), coalesce(jsonb_object_agg(key, after), '{}')
    FROM changed
  `
}

/** What only Postgres can know: how much a context weighs as it writes JSON, how long a number may be. */
const refusedByPostgres = (
  error: SqlError,
  invalid: (issues: Issues) => CorrectionInvalid
): CorrectionInvalid | undefined =>
  Option.getOrUndefined(
    Option.map(invalidData(error), ({ constraint = "", message }) => {
      const { field, reason } = constraintIssues[constraint] ?? { field: "", reason: message }
      return invalid([issue(field, reason)])
    })
  )
