/** What takes part: a way from committed rows in Postgres to rows in ClickHouse. */
import type { SqlClient } from "@effect/sql"
import type { ClickHouse, Postgres } from "clickhouse-outbox"
import { Effect, type Scope } from "effect"
import type { Variables } from "../databases.ts"
import { type Program, startScript } from "../harness/processes.ts"
import type { Source } from "../harness/Source.ts"

export type Services = ClickHouse.ClickHouse | Postgres.Postgres | SqlClient.SqlClient | Variables

export interface Arena {
  readonly source: Source
  /** How many events the run has, from the first. */
  readonly events: number
  /** The environment that leads its programs to the run's databases. */
  readonly variables: typeof Variables.Service
}

/** Everything is up and connected; nothing has been carried. */
export interface Started {
  readonly programs: ReadonlyArray<Program>
  /** Runs when the clock starts. It may return long before everything has been carried, or after. */
  readonly go: Effect.Effect<void, Error>
  /** Whether its programs end by themselves, and must end well. */
  readonly ends: boolean
}

export interface Contestant {
  /** What `--only` selects by. Several may share it. */
  readonly name: string
  readonly variant: string
  /** What it is, and what it does not promise, in a few words. */
  readonly about: string
  /** The schema of its own tables in Postgres; none if it reads the source. */
  readonly schema: string | undefined
  /** The slow ones carry fewer events. The first is for a quick run. */
  readonly most: readonly [quick: number, full: number]
  /** Fails where the servers cannot do it; it is left out then. */
  readonly check?: (source: Source) => Effect.Effect<unknown, Error, ClickHouse.ClickHouse>
  /** Puts the arena's events into its own table, committed. */
  readonly prepare: (arena: Arena) => Effect.Effect<void, Error, Services>
  readonly start: (arena: Arena) => Effect.Effect<Started, Error, Services | Scope.Scope>
}

export const EVERYTHING = [100_000, Number.POSITIVE_INFINITY] as const

/** Programs of the folder beside this one, which begin together when the clock starts. */
export const startPrograms = (
  name: string,
  script: string,
  count: number,
  { events, variables }: Arena,
  own: Readonly<Record<string, string>> = {}
) =>
  Effect.map(
    Effect.all(
      Array.from({ length: count }, () =>
        startScript(name, new URL(`./programs/${script}.ts`, import.meta.url), {
          ...variables,
          ...own,
          EVENTS: String(events)
        })
      ),
      { concurrency: "unbounded" }
    ),
    (programs): Started => ({
      programs,
      go: Effect.forEach(programs, ({ go }) => go, { discard: true }),
      ends: true
    })
  )
