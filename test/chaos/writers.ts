/** A workload of concurrent writers, through the library and through SQL, each of which keeps a journal. */
import { randomUUID } from "node:crypto"
import * as SqlClient from "@effect/sql/SqlClient"
import * as Arr from "effect/Array"
import * as Data from "effect/Data"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import Pg from "pg"
import * as Event from "../../src/Event.ts"
import * as EventPublisher from "../../src/EventPublisher.ts"
import { TransactionFailed, transaction } from "../../src/Transaction.ts"
import type { WrittenEvent, WrittenTransaction } from "./journal.ts"
import type { Transaction, Writer } from "./schedule.ts"

/** What `pg_stat_activity` calls them. */
export const APPLICATION = "chaos-writer"

/** The writer's own reason to roll back. */
class ChangedItsMind extends Data.TaggedError("ChangedItsMind") {}

const MONTHS = 2

/** As fine as each of the ways to publish can say when something happened. */
const FRACTION = { library: "123000", SQL: "123456" }

const compose = (environment: string, through: Writer["through"], plan: Transaction): Array<WrittenEvent> =>
  Arr.makeBy(plan.events, (n) => {
    const isRefused = n >= plan.events - plan.refused
    return {
      eventId: randomUUID(),
      eventType: `chaos_${n % 5}`,
      eventDateTime: `2026-0${1 + (n % MONTHS)}-1${n % 10} 0${n % 10}:30:00.${FRACTION[through]}`,
      environment,
      metadataVersion: n,
      context: {
        n,
        text: `${'it\'s\t"quoted" \\ é😀\n'.slice(0, plan.bytes)}${"x".repeat(plan.bytes)}`,
        tags: ["a", `b${n}`],
        nested: { "with.dot": true, price: n + 0.5, id: 2 ** 53 - 1 - n },
        // An integer beyond 64 bits.
        ...(isRefused && { refused: 1e30 })
      },
      isRefused
    }
  })

const half = (events: ReadonlyArray<WrittenEvent>) => Arr.splitAt(events, Math.ceil(events.length / 2))

/** While Postgres is away. */
const MOST_ATTEMPTS = 20

/**
 * Carries one transaction out and writes it down; another time, with other events, where it failed. What was begun is
 * finished, so that its end is known.
 */
const carryOut =
  (url: string, environment: string, through: Writer["through"], journal: Journal) => (plan: Transaction) => {
    const write = through === "library" ? throughLibrary : throughSql(url)
    const commits = plan.does === "commit" || plan.does === "savepoints"
    const attempt = Effect.suspend(() => {
      const events = compose(environment, through, plan)
      const [kept, undone] = plan.does === "savepoints" ? half(events) : [events, []]
      const written = { marker: randomUUID(), events: kept, undone }
      return Effect.tap(write(plan, written), (outcome) => Effect.sync(() => journal.push({ ...written, outcome })))
    })
    return Effect.uninterruptible(attempt).pipe(
      Effect.zipLeft(Effect.sleep(plan.pauseMillis)),
      Effect.repeat({ times: MOST_ATTEMPTS, while: (outcome) => commits && outcome === "rolled back" })
    )
  }

/** Carries the plan out. */
export const run = (url: string, environment: string, { through, transactions }: Writer, journal: Journal) =>
  Effect.forEach(transactions, carryOut(url, environment, through, journal), { discard: true })

/** Small transactions until interrupted, so that there is something to do at every moment. */
export const trickle = (url: string, environment: string, through: Writer["through"], journal: Journal) =>
  Effect.forEach([0, 0, 0, 0, 0, 0, 0, 1], (refused) =>
    carryOut(url, environment, through, journal)({ ...SMALL, refused })
  ).pipe(Effect.forever)

/** An event that ClickHouse refuses, so that there is something to isolate. */
export const provoke = (url: string, environment: string, journal: Journal) =>
  carryOut(url, environment, "SQL", journal)({ ...SMALL, refused: 1 })

export type Journal = Array<WrittenTransaction>
type Write<R> = (
  plan: Transaction,
  written: Omit<WrittenTransaction, "outcome">
) => Effect.Effect<WrittenTransaction["outcome"], never, R>

const SMALL: Transaction = { does: "commit", events: 10, bytes: 100, refused: 0, openMillis: 0, pauseMillis: 60 }

const throughLibrary: Write<SqlClient.SqlClient | EventPublisher.EventPublisher> = (
  { does, openMillis },
  { events, marker, undone }
) =>
  Effect.gen(function* () {
    const sql = yield* SqlClient.SqlClient
    yield* sql`INSERT INTO chaos.marker (id) VALUES (${marker})`
    const publish = (some: ReadonlyArray<WrittenEvent>) =>
      EventPublisher.publishAll(
        some.map(({ context, ...event }) => ({
          ...Event.make({ eventType: event.eventType, eventContext: context, metadataVersion: event.metadataVersion }),
          eventId: event.eventId,
          eventDateTime: new Date(`${event.eventDateTime.slice(0, 23).replace(" ", "T")}Z`),
          environment: event.environment
        }))
      )
    if (does === "savepoints") {
      yield* Effect.ignore(transaction(Effect.zipRight(publish(undone), new ChangedItsMind())))
      yield* transaction(publish(events))
    } else yield* publish(events)
    yield* Effect.sleep(openMillis)
    if (does === "roll back" || does === "walk out") yield* new ChangedItsMind()
  }).pipe(
    transaction,
    Effect.exit,
    Effect.map(
      Exit.match({
        onSuccess: () => "committed" as const,
        onFailure: (cause) =>
          cause._tag === "Fail" && !(cause.error instanceof TransactionFailed && cause.error.committing)
            ? ("rolled back" as const)
            : ("unknown" as const)
      })
    )
  )

const PUBLISH = "SELECT outbox.publish($1, $2, $3, $4, $5, $6)"
const PUBLISH_ALL =
  "SELECT count(*) FROM outbox.publish_all($1::text[], $2::jsonb[], $3::timestamptz[], $4::text[], $5::bigint[], $6::uuid[])"

const columns = (event: WrittenEvent) => [
  event.eventType,
  JSON.stringify(event.context),
  `${event.eventDateTime}+00`,
  event.environment,
  event.metadataVersion,
  event.eventId
]

/** As a program in another language would: a connection of its own, and statements. */
const throughSql =
  (url: string): Write<never> =>
  ({ does, openMillis }, { events, marker, undone }) =>
    Effect.promise(async () => {
      const client = new Pg.Client({ connectionString: url, application_name: APPLICATION })
      // It is told to the statement under way too.
      client.on("error", () => {})
      const publish = async (some: ReadonlyArray<WrittenEvent>) => {
        if (some.length > 20) {
          const rows = some.map(columns)
          await client.query(
            PUBLISH_ALL,
            [0, 1, 2, 3, 4, 5].map((column) => rows.map((row) => row[column]))
          )
        } else for (const event of some) await client.query(PUBLISH, columns(event))
      }
      let committing = false
      try {
        await client.connect()
        await client.query("BEGIN")
        await client.query("INSERT INTO chaos.marker (id) VALUES ($1)", [marker])
        if (does === "savepoints") {
          await client.query("SAVEPOINT mistake")
          await publish(undone)
          await client.query("ROLLBACK TO SAVEPOINT mistake")
          await client.query("SAVEPOINT intent")
          await publish(events)
          await client.query("RELEASE SAVEPOINT intent")
        } else await publish(events)
        await new Promise((resume) => setTimeout(resume, openMillis))
        if (does === "walk out") return "rolled back"
        if (does === "roll back") {
          await client.query("ROLLBACK")
          return "rolled back"
        }
        committing = true
        await client.query("COMMIT")
        return "committed"
      } catch {
        return committing ? "unknown" : "rolled back"
      } finally {
        client.end().catch(() => {})
      }
    })
