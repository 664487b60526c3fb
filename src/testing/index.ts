/**
 * For the tests of programs that publish: `import { PublishedEvents } from "clickhouse-outbox/testing"`.
 *
 * @since 0.1.0
 */
export * as PublishedEvents from "./PublishedEvents.ts"
