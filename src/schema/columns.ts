/** How rows of SQL become values. Columns keep their names in JSON, with times in RFC 3339. */
import * as Arr from "effect/Array"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"

/** A field whose column, and JSON, has another name. */
export const column = <Name extends string, A, I>(name: Name, schema: Schema.Schema<A, I>) =>
  Schema.propertySignature(schema).pipe(Schema.fromKey(name))

/** A timestamp as RFC 3339 text, whatever the session's DateStyle and zone. */
export const rfc3339 = (timestamp: string): string =>
  `to_char(${timestamp} AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')`

/**
 * The rows of a statement. The tables are this package's own and their columns typed, so a row that does not decode is a
 * defect.
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

/** What comes after a key, and how much of it. */
export interface Page<Key> {
  readonly after?: Key | undefined
  /** Rows at most: {@link DEFAULT_LIMIT} unless set. */
  readonly limit?: number | undefined
}

export const DEFAULT_LIMIT = 50
