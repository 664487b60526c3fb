/** Which relay this is, and how Postgres is told. */
import { hostname } from "node:os"

/** Host and process. A worker's leases are held under this and the worker's number. */
export const relayId = `${hostname()}/${process.pid}`

/** What a relay's connections begin with in `pg_stat_activity`. */
export const PREFIX = "clickhouse-outbox "

/** As much of an id as Postgres keeps of a name, 63 bytes: the end, which differs between the pods of a deployment. */
export const KEPT_CHARACTERS = 63 - PREFIX.length

/** The name of a relay's connections, by which others know that it is there while it has nothing to do. */
export const applicationName = PREFIX + relayId.slice(-KEPT_CHARACTERS)
