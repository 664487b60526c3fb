/** What this relay is called, in leases and in `pg_stat_activity`. */
import { hostname } from "node:os"

/** Host and process. The owner of a worker's leases is this and the worker's number. */
export const relayId = `${hostname()}/${process.pid}`

/** Begins the name of every relay's connections. */
export const PREFIX = "clickhouse-outbox "

/**
 * How much of an id fits into a name, of which Postgres keeps 63 bytes. It is the end of the id that is kept, because that
 * differs between the pods of a deployment.
 */
export const KEPT_CHARACTERS = 63 - PREFIX.length

/** The name of this relay's connections, by which it is known while it has no lease. */
export const applicationName = PREFIX + relayId.slice(-KEPT_CHARACTERS)
