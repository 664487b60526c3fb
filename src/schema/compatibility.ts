/**
 * Is this my database? Whether it has this release's outbox, and whether the transaction ids and the deliveries that
 * the outbox stores still mean what they meant when they were written.
 *
 * | found | how | what is done |
 * | --- | --- | --- |
 * | text that is not checked | the database's encoding is SQL_ASCII | fails with {@link UnsuitableEncoding}; so does `migrate` |
 * | no outbox | the newest table is not there | fails with {@link NotMigrated} |
 * | rows of another database | the cluster, the database or the table is not the one that the outbox names, or the cluster's transaction ids are behind | fails with {@link ForeignDatabase}, until `restamp` |
 * | a new timeline | a standby was promoted, or a backup recovered | the sealer enters it; see `OutboxStore/Sealing.ts` |
 *
 * A restore on the same server moves neither the cluster's identifier nor its timeline, but it makes new tables, and
 * mostly a new database. What no server can tell is a copy of its own disk.
 */
import type * as SqlClient from "@effect/sql/SqlClient"
import type { SqlError } from "@effect/sql/SqlError"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import { rowOf, rowsOf } from "./columns.ts"

/**
 * The schema `outbox` is not there, or lacks what a later migration adds.
 *
 * @since 0.1.0
 * @category errors
 */
export class NotMigrated extends Schema.TaggedError<NotMigrated>()("NotMigrated", {}) {
  override get message(): string {
    return 'The database has no outbox yet, or one of an older release. Run "clickhouse-outbox migrate"'
  }
}

/**
 * The database does not know which characters its text has.
 *
 * @since 0.1.0
 * @category errors
 */
export class UnsuitableEncoding extends Schema.TaggedError<UnsuitableEncoding>()("UnsuitableEncoding", {
  database: Schema.String,
  encoding: Schema.String
}) {
  override get message(): string {
    return `Database ${JSON.stringify(this.database)} has encoding ${this.encoding}, in which Postgres takes any bytes as text. One that is not UTF-8 in one event would stop the delivery of all. Make a database with CREATE DATABASE … ENCODING 'UTF8' TEMPLATE template0, and restore a dump of this one into it`
  }
}

/**
 * What happened to the rows of the outbox since they were written:
 *
 * - `moved`: they are on another cluster, by a dump that was restored there, or by `pg_upgrade`.
 * - `restored`: they are in another table of the same cluster, by a dump that was restored.
 * - `copied`: they are in another database of the same cluster, by `CREATE DATABASE … TEMPLATE`. The one that they were
 *   copied from may go on delivering them.
 * - `rewound`: their cluster has gone on without them, or is a copy from before they were written.
 */
const Origin = Schema.Literal("moved", "restored", "copied", "rewound")

/**
 * The rows of the outbox were written in another database: their transaction ids mean nothing here, and nobody here
 * knows what became of them there.
 *
 * @since 0.1.0
 * @category errors
 */
export class ForeignDatabase extends Schema.TaggedError<ForeignDatabase>()("ForeignDatabase", {
  origin: Origin,
  /** The database that the outbox is in. */
  database: Schema.String,
  /** Where it says that it was written. */
  expected: Schema.String,
  /** Where it is. */
  actual: Schema.String
}) {
  override get message(): string {
    return `The outbox of database ${JSON.stringify(this.database)} ${HAPPENED[this.origin]}: it was written in ${this.expected}, and this is ${this.actual}. What it takes for undelivered may have been delivered since. Stop all relays of this database and run "clickhouse-outbox restamp", then start them again: they ask ClickHouse for it before they send it`
  }
}

const HAPPENED: Readonly<Record<typeof Origin.Type, string>> = {
  moved: "was restored from a dump of another Postgres, or upgraded",
  restored: "was restored from a dump",
  copied:
    "is a copy of another one. If that goes on delivering to the same table, let it deliver everything before this one does anything",
  rewound: "is ahead of its Postgres, which is an older copy of it"
}

/** Looks for the newest table: migrations run in order, so a database that has it has the others. */
export const HAS_OUTBOX = "to_regclass('outbox.audit') IS NOT NULL"

const Found = Schema.Struct({ found: Schema.Boolean })

const Encoding = Schema.Struct({ database: Schema.String, encoding: Schema.String })

/** Fails where the database cannot have an outbox. */
export const requireEncoding = (sql: SqlClient.SqlClient): Effect.Effect<void, SqlError | UnsuitableEncoding> =>
  sql`
    SELECT current_database()::text AS database, getdatabaseencoding()::text AS encoding
    WHERE getdatabaseencoding() = 'SQL_ASCII'
  `.pipe(
    rowsOf(Encoding),
    Effect.flatMap(([unsuitable]) => (unsuitable === undefined ? Effect.void : new UnsuitableEncoding(unsuitable)))
  )

/** For what works in any database. */
export const requireOutbox = (sql: SqlClient.SqlClient): Effect.Effect<void, NotMigrated | SqlError> =>
  Effect.flatMap(rowOf(Found)(sql`SELECT ${sql.literal(HAS_OUTBOX)} AS found`), ({ found }) =>
    found ? Effect.void : new NotMigrated()
  )

/** The columns of `outbox.sealer` that say where the outbox was written. */
export const ORIGIN = "system_identifier, database_oid, table_oid"

/** Where it is, as a subquery of those columns. A cluster gives no number of a database or a table twice. */
export const HERE = `(
  SELECT system_identifier, database.oid AS database_oid, 'outbox.event'::regclass::oid AS table_oid
  FROM pg_control_system(), pg_database AS database
  WHERE datname = current_database()
)`

const STORED_SNAPSHOT = "coalesce(sealer.window_snapshot, sealer.sealed_snapshot)"

/**
 * A condition on a row of `outbox.sealer`. A cluster never counts backwards: where its next transaction id is below the
 * stored one, that one came from elsewhere. Sealing, leasing and tidying up ask each time, since a connection that broke
 * may have come back to another database of the same name.
 */
export const IS_FOREIGN = `(
  (sealer.system_identifier, sealer.database_oid, sealer.table_oid) <> ${HERE}
  OR pg_snapshot_xmax(pg_current_snapshot()) < pg_snapshot_xmax(${STORED_SNAPSHOT})
)`

/** A condition on a row of `outbox.sealer`: commits may have been lost since it was written. */
export const IS_NEW_TIMELINE = "sealer.timeline <> outbox.current_timeline()"

const Foreign = Schema.Struct(ForeignDatabase.fields).omit("_tag")

/** Fails where the outbox was written in another database. It is there. */
export const requireOwnDatabase = (sql: SqlClient.SqlClient): Effect.Effect<void, ForeignDatabase | SqlError> =>
  sql`
    SELECT
      CASE
        WHEN sealer.system_identifier <> here.system_identifier THEN 'moved'
        WHEN sealer.table_oid <> here.table_oid THEN 'restored'
        WHEN sealer.database_oid <> here.database_oid THEN 'copied'
        ELSE 'rewound'
      END AS origin,
      current_database()::text AS database,
      format(
        'cluster %s, database %s, table %s, at transaction %s',
        sealer.system_identifier, sealer.database_oid, sealer.table_oid, pg_snapshot_xmax(${sql.literal(STORED_SNAPSHOT)})
      ) AS expected,
      format(
        'cluster %s, database %s, table %s, at transaction %s',
        here.system_identifier, here.database_oid, here.table_oid, pg_snapshot_xmax(pg_current_snapshot())
      ) AS actual
    FROM outbox.sealer, ${sql.literal(HERE)} AS here
    WHERE ${sql.literal(IS_FOREIGN)}
  `.pipe(
    rowsOf(Foreign),
    Effect.flatMap(([foreign]) => (foreign === undefined ? Effect.void : new ForeignDatabase(foreign)))
  )

/** What a service asks before it works on an outbox. */
export const requireOwnOutbox = (
  sql: SqlClient.SqlClient
): Effect.Effect<void, ForeignDatabase | NotMigrated | SqlError | UnsuitableEncoding> =>
  requireEncoding(sql).pipe(Effect.zipRight(requireOutbox(sql)), Effect.zipRight(requireOwnDatabase(sql)))
