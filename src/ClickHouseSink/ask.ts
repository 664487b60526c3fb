/** What ClickHouse is asked where it is not certain what became of an insert. */
import * as Arr from "effect/Array"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import type { Batch } from "../Batch.ts"
import type { ClickHouse, Options, Settings } from "../ClickHouse.ts"
import type * as Config from "../Config.ts"
import { EventId } from "../Event.ts"
import { SinkError } from "../SinkError.ts"
import { decode, incomplete } from "../schema/clickHouseAnswer.ts"
import type { TableState } from "../schema/eventTable.ts"
import { withNothingBehind } from "./current.ts"

type Asked = Pick<Config.ClickHouse, "table" | "cluster" | "requestTimeout">

/**
 * Where events are looked for: without their types and times it would be a scan.
 *
 * @since 0.1.0
 * @category models
 */
export type Bounds = Pick<Batch, "eventTypes" | "firstEventDateTime" | "lastEventDateTime">

/** ClickHouse's `http_max_field_value_size` admits 128 KiB in one parameter; an id in a list takes 39 bytes. */
const IDS_PER_QUERY = 2_000
/** The question is answered without the types too, only slower. */
const MAX_TYPES_BYTES = 65_536

const hasFewTypes = ({ eventTypes }: Bounds): boolean =>
  Buffer.byteLength(JSON.stringify(eventTypes)) <= MAX_TYPES_BYTES

const conditionOf = (
  within: Bounds
): string => `${hasFewTypes(within) ? "event_type IN {event_types:Array(String)}" : "true"}
  AND event_date_time >= {first:DateTime64(6, 'UTC')} - INTERVAL 1 SECOND
  AND event_date_time <= {last:DateTime64(6, 'UTC')}`

const parametersOf = (within: Bounds) => ({
  event_types: hasFewTypes(within) ? within.eventTypes : [],
  first: within.firstEventDateTime,
  last: within.lastEventDateTime
})

/** A row of the table: what an insert said, as text. The context is JSON, whichever type its column has. */
export interface Row {
  readonly eventId: EventId
  readonly eventType: string
  readonly eventDateTime: string
  readonly environment: string
  readonly eventContext: string
  readonly metadataVersion: string
  readonly traceId: string
}

export const make = (
  clickHouse: typeof ClickHouse.Service,
  config: Asked,
  tableState: Effect.Effect<TableState, SinkError>
) => {
  /** As many questions as the ids need, all of them to a server that has what was committed before. */
  const askOf = <A>(
    eventIds: ReadonlyArray<EventId>,
    ask: (ids: ReadonlyArray<EventId>, options?: Options) => Effect.Effect<ReadonlyArray<A>, SinkError>
  ): Effect.Effect<ReadonlyArray<A>, SinkError> =>
    Effect.flatMap(tableState, (state) => withNothingBehind(clickHouse, config, state)).pipe(
      Effect.flatMap((current) =>
        Effect.forEach(Arr.chunksOf(eventIds, IDS_PER_QUERY), (ids) => current((options) => ask(ids, options)))
      ),
      Effect.map(Arr.flatten),
      Effect.mapError(unanswered)
    )

  return {
    /** How many rows the table has of each event, of those that it has any of. */
    countRows: (
      within: Bounds,
      eventIds: ReadonlyArray<EventId>
    ): Effect.Effect<ReadonlyMap<EventId, number>, SinkError> =>
      Effect.map(
        askOf(eventIds, (ids, options) =>
          clickHouse
            .query(
              // In one row, with its own length: of several, some could be left out, and "missing" would be sent again.
              `SELECT toUInt32(count()), groupArray(id), groupArray(rows)
               FROM (
                 SELECT toString(event_id) AS id, toUInt32(count()) AS rows
                 FROM {table:Identifier}
                 WHERE ${conditionOf(within)} AND event_id IN {ids:Array(UUID)}
                 GROUP BY event_id
               )`,
              { table: config.table, ...parametersOf(within), ids },
              options
            )
            .pipe(Effect.flatMap(readCounts))
        ),
        (counts) => new Map(counts)
      ),

    /** The rows that the table has of the events. */
    readRows: (within: Bounds, eventIds: ReadonlyArray<EventId>): Effect.Effect<ReadonlyArray<Row>, SinkError> =>
      askOf(eventIds, (ids, options) =>
        clickHouse
          .query(
            // In one row, with its own length, as above.
            `SELECT toUInt32(count()), groupArray(array(
               toString(event_id), toString(event_type), toString(toDateTime64(event_date_time, 6, 'UTC')),
               toString(environment), toString(event_context), toString(metadata_version), toString(trace_id)
             ))
             FROM {table:Identifier}
             WHERE ${conditionOf(within)} AND event_id IN {ids:Array(UUID)}`,
            { table: config.table, ...parametersOf(within), ids },
            { ...options, settings: { ...options?.settings, ...AS_PUBLISHED } }
          )
          .pipe(Effect.flatMap(readRowsOf))
      ),

    /** Whether the server, or any of the cluster's, lists an insert under the token. */
    isInserting: (token: string): Effect.Effect<boolean, SinkError> =>
      clickHouse
        .query(
          `SELECT toUInt32(count())
           FROM ${Option.isSome(config.cluster) ? "clusterAllReplicas({cluster:String}, system.processes)" : "system.processes"}
           WHERE startsWith(query_id, {token:String})`,
          // A server that does not answer may run one: each is waited for.
          { token, ...Option.match(config.cluster, { onNone: () => ({}), onSome: (cluster) => ({ cluster }) }) }
        )
        .pipe(
          Effect.flatMap(decode(Running)),
          Effect.map(([[inserts]]) => inserts > 0),
          Effect.mapError(unanswered)
        )
  }
}

/** Keys with dots in them, and numbers with all their digits. */
const AS_PUBLISHED: Settings = {
  json_type_escape_dots_in_keys: 1,
  output_format_json_quote_64bit_integers: 0,
  output_format_json_escape_forward_slashes: 0
}

const Text = Schema.String
const Rows = Schema.Tuple(
  Schema.Tuple(Schema.Int, Schema.Array(Schema.Tuple(EventId, Text, Text, Text, Text, Text, Text)))
)

const readRowsOf = (answer: unknown): Effect.Effect<ReadonlyArray<Row>, SinkError> =>
  Effect.flatMap(decode(Rows)(answer), ([[count, rows]]) =>
    rows.length === count
      ? Effect.succeed(
          rows.map(([eventId, eventType, eventDateTime, environment, eventContext, metadataVersion, traceId]) => ({
            eventId,
            eventType,
            eventDateTime,
            environment,
            eventContext,
            metadataVersion,
            traceId
          }))
        )
      : Effect.fail(incomplete)
  )

const Counts = Schema.Tuple(Schema.Tuple(Schema.Int, Schema.Array(EventId), Schema.Array(Schema.Int)))

const readCounts = (answer: unknown): Effect.Effect<ReadonlyArray<readonly [EventId, number]>, SinkError> =>
  Effect.flatMap(decode(Counts)(answer), ([[count, ids, rows]]) =>
    ids.length === count && rows.length === count ? Effect.succeed(Arr.zip(ids, rows)) : Effect.fail(incomplete)
  )

const Running = Schema.Tuple(Schema.Tuple(Schema.Int))

/** By the class of what went wrong with the question. */
const UNANSWERED = {
  data: "unknown",
  transient: "in-doubt",
  "in-doubt": "in-doubt",
  configuration: "configuration",
  unknown: "unknown"
} as const

/** A question that fails says nothing of a batch: what it was to settle stays in doubt, and its data is not at fault. */
const unanswered = (error: SinkError): SinkError =>
  new SinkError({
    errorClass: UNANSWERED[error.errorClass],
    reason: error.reason,
    settled: false,
    ...(error.code !== undefined && { code: error.code })
  })
