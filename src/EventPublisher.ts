/**
 * Publishing: an event is written into the outbox by the caller's own transaction.
 *
 * Rolled back, it never was. Committed, it will arrive in ClickHouse, once. Whatever is wrong with ClickHouse or the
 * relay, publishing is one INSERT into Postgres and nothing else. Cost: one round trip, for one event or for many.
 * Safe with any number of publishers: they take no lock that another would wait for.
 *
 * @since 0.1.0
 */
import * as SqlClient from "@effect/sql/SqlClient"
import type { SqlError } from "@effect/sql/SqlError"
import * as Arr from "effect/Array"
import * as Clock from "effect/Clock"
import type * as ConfigError from "effect/ConfigError"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Metric from "effect/Metric"
import * as Option from "effect/Option"
import { type AnySpan, ParentSpan } from "effect/Tracer"
import * as Config from "./Config.ts"
import { type Event, type EventId, EventInvalid, EventIssue } from "./Event.ts"
import { invalidData } from "./internal/sqlState.ts"
import * as Metrics from "./Metrics.ts"
import { constraintIssues, type EventRow, toRow } from "./schema/eventRow.ts"

/**
 * @since 0.1.0
 * @category tags
 */
export class EventPublisher extends Context.Tag("clickhouse-outbox/EventPublisher")<
  EventPublisher,
  {
    /**
     * Publishes one event in the surrounding transaction, or in one of its own if there is none, and returns its id.
     * The current span's trace context travels with it.
     */
    readonly publish: (event: Event) => Effect.Effect<EventId, EventInvalid | SqlError>
    /**
     * Publishes all of the events or, if one of them is invalid, none, and returns their ids in the same order. One
     * round trip; every problem of every event is in the error.
     */
    readonly publishAll: (events: Iterable<Event>) => Effect.Effect<ReadonlyArray<EventId>, EventInvalid | SqlError>
  }
>() {}

/**
 * @param options.environment what events carry that do not name an environment of their own
 * @since 0.1.0
 * @category constructors
 */
export const make = (options: {
  readonly environment: string
}): Effect.Effect<typeof EventPublisher.Service, never, SqlClient.SqlClient> =>
  Effect.map(Effect.zipRight(Metrics.registerPublisher, SqlClient.SqlClient), (client) => {
    const sql = client.withoutTransforms()

    const decide = (events: Iterable<Event>) =>
      Effect.suspend(() => decideRows(Arr.fromIterable(events), options.environment))

    return {
      publish: (event) =>
        decide([event]).pipe(
          Effect.flatMap((rows) => Effect.orDie(Arr.head(rows))),
          Effect.tap((row) =>
            Effect.withSpan(
              write(sql, [row], insertOne),
              "EventPublisher.publish",
              producing({ "event.type": event.eventType, "event.count": 1 })
            )
          ),
          Effect.map((row) => row.eventId)
        ),
      publishAll: (events) =>
        decide(events).pipe(
          Effect.tap((rows) =>
            Arr.isNonEmptyReadonlyArray(rows)
              ? Effect.withSpan(
                  write(sql, rows, insertAll),
                  "EventPublisher.publishAll",
                  producing({ "event.count": rows.length })
                )
              : Effect.void
          ),
          Effect.map((rows) => rows.map((row) => row.eventId))
        )
    }
  })

/** No stack trace: it would end in this file. */
const producing = (attributes: Record<string, unknown>) =>
  ({ kind: "producer", attributes, captureStackTrace: false }) as const

const decideRows = (events: ReadonlyArray<Event>, environment: string) =>
  Effect.flatMap(Clock.currentTimeMillis, (nowMillis) => {
    const [problems, rows] = Arr.partitionMap(events, (event, index) => toRow(event, index, { nowMillis, environment }))
    const issues = problems.flat()
    return Arr.isNonEmptyArray(issues) ? new EventInvalid({ issues }) : Effect.succeed(rows)
  })

/** The span's context travels with the events. The span begins after validation, whose errors quote events. */
const write = (sql: SqlClient.SqlClient, rows: Arr.NonEmptyReadonlyArray<EventRow>, insert: Insert) =>
  Effect.context<never>().pipe(
    Effect.flatMap((context) => insert(sql, rows, traceparent(Context.getOption(context, ParentSpan)))),
    Effect.mapError((error) => invalidAccordingTo(error, rows) ?? error),
    Effect.zipRight(Metric.incrementBy(Metrics.eventsPublished, rows.length))
  )

/**
 * The span as a W3C `traceparent`, version 00: https://www.w3.org/TR/trace-context/#traceparent-header. Absent where its
 * ids are not W3C's, as after a `b3` header, which Effect passes on as it came: no request may make publishing fail.
 */
const traceparent = (span: Option.Option<AnySpan>): string | null => {
  if (Option.isNone(span)) return null
  const { sampled, spanId, traceId } = span.value
  // B3's short trace ids are W3C's with the zeros left out.
  const header = `00-${traceId.padStart(32, "0")}-${spanId}-${sampled ? "01" : "00"}`.toLowerCase()
  return TRACEPARENT.test(header) ? header : null
}

const TRACEPARENT = /^00-[0-9a-f]{32}-[0-9a-f]{16}-0[01]$/

type Insert = (
  sql: SqlClient.SqlClient,
  rows: Arr.NonEmptyReadonlyArray<EventRow>,
  traceparent: string | null
) => Effect.Effect<unknown, SqlError>

const insertOne: Insert = (sql, [row], traceparent) =>
  sql`
    SELECT outbox.publish(
      ${row.eventType}, ${row.eventContext}, ${row.eventDateTime}, ${row.environment}, ${row.metadataVersion},
      ${row.eventId}, ${traceparent}
    )
  `

/**
 * One statement however many events: arrays, because 65,535 parameters are the end of a VALUES list. What is the same for
 * all of them is sent once: it need not be written, read and parsed for each.
 */
const insertAll: Insert = (sql, rows, traceparent) => {
  const column = (type: string, of: (row: EventRow) => string) => {
    const first = of(rows[0])
    return rows.every((row) => of(row) === first)
      ? sql`array_fill(${first}::${sql.literal(type)}, ARRAY[${rows.length}]::integer[])`
      : sql`${rows.map(of)}::${sql.literal(type)}[]`
  }
  return sql`
    SELECT count(*) FROM outbox.publish_all(
      ${column("text", (row) => row.eventType)},
      ${jsonArray(rows.map((row) => row.eventContext))}::jsonb[],
      ${column("timestamptz", (row) => row.eventDateTime)},
      ${column("text", (row) => row.environment)},
      ${column("bigint", (row) => row.metadataVersion)},
      ${`{${rows.map((row) => row.eventId).join(",")}}`}::uuid[],
      ${traceparent}
    )
  `
}

/**
 * Postgres' array literal, whose elements are quoted as JSON strings are as long as they hold no control characters.
 * JSON holds none. pg's own encoder takes ten times as long for it.
 */
const jsonArray = (json: ReadonlyArray<string>): string => `{${JSON.stringify(json).slice(1, -1)}}`

/** What only Postgres can know: a context may weigh more as it writes JSON. It says which of several events that was. */
const invalidAccordingTo = (error: SqlError, rows: Arr.NonEmptyReadonlyArray<EventRow>): EventInvalid | undefined => {
  const invalid = Option.getOrUndefined(invalidData(error))
  const issue = constraintIssues[invalid?.constraint ?? ""]
  const index = rows.length === 1 ? 0 : rows.findIndex((row) => invalid?.detail?.includes(row.eventId))
  const row = rows[index]
  return issue && row && new EventInvalid({ issues: [new EventIssue({ index, eventType: row.eventType, ...issue })] })
}

/**
 * @since 0.1.0
 * @category layers
 */
export const layer = (options: {
  readonly environment: string
}): Layer.Layer<EventPublisher, never, SqlClient.SqlClient> => Layer.effect(EventPublisher, make(options))

/**
 * {@link layer} from the environment: `OUTBOX_ENVIRONMENT`.
 *
 * @since 0.1.0
 * @category layers
 */
export const layerConfig: Layer.Layer<EventPublisher, ConfigError.ConfigError, SqlClient.SqlClient> =
  Layer.unwrapEffect(Effect.map(Config.environment, (environment) => layer({ environment })))

/**
 * Publishes one event in the surrounding transaction. Succeeds with its id.
 *
 * @example
 * ```ts
 * import { SqlClient } from "@effect/sql"
 * import { Effect } from "effect"
 * import { Event, EventPublisher } from "clickhouse-outbox"
 *
 * const rename = Effect.fn(function* (id: number, name: string) {
 *   const sql = yield* SqlClient.SqlClient
 *   yield* sql`UPDATE users SET name = ${name} WHERE id = ${id}`
 *   yield* EventPublisher.publish(Event.make({ eventType: "user_renamed", eventContext: { id, name } }))
 * }, (effect) => Effect.flatMap(SqlClient.SqlClient, (sql) => sql.withTransaction(effect)))
 * ```
 * @since 0.1.0
 * @category accessors
 */
export const publish = (event: Event): Effect.Effect<EventId, EventInvalid | SqlError, EventPublisher> =>
  Effect.flatMap(EventPublisher, (publisher) => publisher.publish(event))

/**
 * Publishes all of the events, or none, in the surrounding transaction. Succeeds with their ids, in the same order.
 *
 * @since 0.1.0
 * @category accessors
 */
export const publishAll = (
  events: Iterable<Event>
): Effect.Effect<ReadonlyArray<EventId>, EventInvalid | SqlError, EventPublisher> =>
  Effect.flatMap(EventPublisher, (publisher) => publisher.publishAll(events))
