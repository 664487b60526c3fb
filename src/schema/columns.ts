/** How rows of SQL become what operators see. The columns keep their names in JSON, with times in RFC 3339. */
import * as Schema from "effect/Schema"

/** A field whose column, and JSON, has another name. */
export const column = <Name extends string, A, I>(name: Name, schema: Schema.Schema<A, I>) =>
  Schema.propertySignature(schema).pipe(Schema.fromKey(name))

/** A timestamp as RFC 3339 text, whatever the session's DateStyle and zone. */
export const rfc3339 = (timestamp: string): string =>
  `to_char(${timestamp} AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')`
/** What comes after a key, and how much of it. */
export interface Page<Key> {
  readonly after?: Key | undefined
  /** Rows at most: {@link DEFAULT_LIMIT} unless set. */
  readonly limit?: number | undefined
}

export const DEFAULT_LIMIT = 50
