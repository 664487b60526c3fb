/**
 * What a session's settings must be for statements to mean what is written here. A server, a database, a role or
 * `DATABASE_URL` may have set any of them.
 */

/**
 * Functions and operators are those of Postgres, whatever others have made in the schemas of a `search_path`: one of
 * `public` whose arguments fit better would run with the rights of who calls it.
 */
export const SEARCH_PATH = "pg_catalog, pg_temp"

const SETTINGS: ReadonlyArray<readonly [name: string, value: string]> = [
  // How long it takes depends on the outbox and on ClickHouse. What fails by a limit each time would never be done.
  ["statement_timeout", "0"],
  ["lock_timeout", "0"],
  // What is returned is read as text.
  ["DateStyle", "ISO, MDY"],
  ["IntervalStyle", "postgres"],
  ["TimeZone", "UTC"],
  ["extra_float_digits", "1"],
  ["bytea_output", "hex"],
  // What is sent is text too: literals and arrays.
  ["standard_conforming_strings", "on"],
  ["array_nulls", "on"],
  ["transform_null_equals", "off"],
  // A policy that hides rows fails the statement: what could be a part is no answer.
  ["row_security", "off"]
]

/** Since Postgres 17. It ends the session of a batch that ClickHouse takes longer for. */
const WITHOUT_TRANSACTION_TIMEOUT = `
  SELECT CASE
    WHEN current_setting('server_version_num')::integer >= 170000 THEN set_config('transaction_timeout', '0', true)
  END`

/**
 * Statements that make a transaction mean what is written here, and then what `settings` say. Nothing of it is left when
 * the transaction ends. Before any query: `settings` may set the isolation level.
 */
export const stating = (settings: string): string =>
  [...SETTINGS.map(([name, value]) => `SET LOCAL ${name} = '${value}'`), settings, WITHOUT_TRANSACTION_TIMEOUT]
    .filter((statement) => statement.trim() !== "")
    .join("; ")

const inOptions = ([name, value]: readonly [string, string]): string => `-c ${name}=${value.replaceAll(" ", "\\ ")}`

/**
 * The same for whatever a connection does, as `options` of its start. They take no `transaction_timeout`, which servers
 * before 17 would refuse.
 */
export const OPTIONS = [
  ...SETTINGS,
  ["search_path", SEARCH_PATH] as const,
  ["idle_in_transaction_session_timeout", "10s"] as const,
  ["default_transaction_isolation", "read committed"] as const,
  ["default_transaction_read_only", "off"] as const,
  ["default_transaction_deferrable", "off"] as const
]
  .map(inOptions)
  .join(" ")
