/** Postgres and ClickHouse, as they are, and migrated: to the outbox's schema and the service's own table. */
import { Migrator, SqlClient } from "@effect/sql"
import { ClickHouse, Migrations, Postgres } from "clickhouse-outbox"
import { Effect, Layer } from "effect"

const createUsers = Effect.flatMap(
  SqlClient.SqlClient,
  (sql) => sql`
    CREATE TABLE users (
      id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
      email text NOT NULL,
      name text NOT NULL,
      country text NOT NULL,
      invitations integer NOT NULL DEFAULT 0
    );
    CREATE UNIQUE INDEX users_email ON users (lower(email));
  `
)

const UsersMigrationLive = Layer.effectDiscard(
  Migrator.make({})({
    table: "users_migration",
    loader: Migrator.fromRecord({ "0001_create_users": createUsers })
  })
)

/** For a role that may create nothing. */
export const MigratedDatabasesLive = Layer.merge(Postgres.layerConfig, ClickHouse.layerConfig)

export const DatabasesLive = Layer.merge(UsersMigrationLive, Migrations.layerConfig).pipe(
  Layer.provideMerge(MigratedDatabasesLive)
)
