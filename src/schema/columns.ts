/** How rows of SQL become values, and values SQL. Columns keep their names in JSON, with times in RFC 3339. */
import type * as SqlClient from "@effect/sql/SqlClient"
import type { Fragment } from "@effect/sql/Statement"
import * as Arr from "effect/Array"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"

/** A field whose column, and JSON, has another name. */
export const column = <Name extends string, A, I>(name: Name, schema: Schema.Schema<A, I>) =>
  Schema.propertySignature(schema).pipe(Schema.fromKey(name))

/** A timestamp as RFC 3339 text, whatever the session's DateStyle and zone. */
export const rfc3339 = (timestamp: string): string =>
  `to_char(${timestamp} AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')`

/** A time as milliseconds since 1970: how Postgres prints a timestamp depends on the database's DateStyle. */
export const millis = (timestamp: string): string => `floor(extract(epoch FROM ${timestamp}) * 1000)::float8`

export const interval = (sql: SqlClient.SqlClient, duration: Duration.Duration): Fragment =>
  sql`${Duration.toMillis(duration)}::float8 * interval '1 millisecond'`

/**
 * The rows of a statement. The tables are this package's own and their columns typed, so a row that does not decode is
 * a defect.
 */
export const rowsOf =
  <A, I>(schema: Schema.Schema<A, I>) =>
  <E, R>(statement: Effect.Effect<ReadonlyArray<unknown>, E, R>): Effect.Effect<ReadonlyArray<A>, E, R> =>
    Effect.flatMap(statement, (rows) => Effect.orDie(Schema.decodeUnknown(Schema.Array(schema))(rows)))

/** The first row, if there is one. */
export const firstRowOf =
  <A, I>(schema: Schema.Schema<A, I>) =>
  <E, R>(statement: Effect.Effect<ReadonlyArray<unknown>, E, R>): Effect.Effect<Option.Option<A>, E, R> =>
    Effect.flatMap(statement, (rows) =>
      Effect.orDie(Effect.transposeOption(Option.map(Arr.head(rows), Schema.decodeUnknown(schema))))
    )

/** The row of a statement that always gives one. */
export const rowOf =
  <A, I>(schema: Schema.Schema<A, I>) =>
  <E, R>(statement: Effect.Effect<ReadonlyArray<unknown>, E, R>): Effect.Effect<A, E, R> =>
    Effect.flatMap(firstRowOf(schema)(statement), Effect.orDie)

/** One page of a list. */
export interface Page<Key> {
  /** The last key of the page before; the first page unless set. */
  readonly after?: Key | undefined
  /** How many rows at most: {@link DEFAULT_LIMIT} unless set. */
  readonly limit?: number | undefined
}

export const DEFAULT_LIMIT = 50
