/**
 * Compares what the two databases have of a run, id by id. It trusts no counters: not the application's, not the
 * relay's. Both sides are streamed in the order of their ids, so memory does not grow with the run.
 */
import { SqlClient } from "@effect/sql"
import { ClickHouse } from "clickhouse-outbox"
import { Array, Chunk, Data, Effect, Option, Order, Stream } from "effect"

export class Verdict extends Data.Class<{
  /** Rows of `outbox.event`. */
  readonly published: number
  /** Different events in `event_log`. */
  readonly delivered: number
  /** Events in Postgres that are not in ClickHouse. */
  readonly missing: number
  /** Rows of `event_log` that repeat an event. */
  readonly duplicated: number
}> {
  get isFlawless(): boolean {
    return this.published === this.delivered && this.missing === 0 && this.duplicated === 0
  }
  override toString(): string {
    return `published=${this.published} delivered=${this.delivered} missing=${this.missing} duplicated=${this.duplicated}`
  }
}

const none = new Verdict({ published: 0, delivered: 0, missing: 0, duplicated: 0 })

/** What one event adds. */
const inPostgresOnly = new Verdict({ ...none, published: 1, missing: 1 })
const inClickHouseOnly = (rows: number) => new Verdict({ ...none, delivered: 1, duplicated: rows - 1 })
const inBoth = (rows: number) => new Verdict({ ...none, published: 1, delivered: 1, duplicated: rows - 1 })

const add = (a: Verdict, b: Verdict) =>
  new Verdict({
    published: a.published + b.published,
    delivered: a.delivered + b.delivered,
    missing: a.missing + b.missing,
    duplicated: a.duplicated + b.duplicated
  })

/** @param run the environment that the run's events carry */
export const judge = (run: string) =>
  Effect.gen(function* () {
    return yield* Stream.zipAllSortedByKeyWith(yield* published(run), {
      other: yield* delivered(run),
      order: Order.string,
      onSelf: () => inPostgresOnly,
      onOther: inClickHouseOnly,
      onBoth: (_, rows) => inBoth(rows)
    }).pipe(Stream.runFold(none, (total, [_, event]) => add(total, event)))
  })

const published = (run: string) =>
  Effect.map(SqlClient.SqlClient, (sql) =>
    sql<{ id: string }>`
      SELECT event_id::text AS id FROM outbox.event WHERE environment = ${run} ORDER BY event_id
    `.stream.pipe(Stream.map(({ id }) => [id, undefined] as const))
  )

const PAGE = 20_000

/** Each id with its number of rows. As text, because ClickHouse orders uuids by their second half. */
const delivered = (run: string) =>
  Effect.map(ClickHouse.ClickHouse, (clickHouse) =>
    Stream.paginateChunkEffect("", (after) =>
      Effect.map(
        clickHouse.query(
          `SELECT toString(event_id) AS id, count()
           FROM event_log
           WHERE environment = {run:String} AND id > {after:String}
           GROUP BY id
           ORDER BY id
           LIMIT {page:UInt32}`,
          { run, after, page: PAGE }
        ),
        (rows) => {
          const ids = rows.map(([id, count]) => [String(id), Number(count)] as const)
          const last = Option.filter(Array.last(ids), () => ids.length === PAGE)
          return [Chunk.unsafeFromArray(ids), Option.map(last, ([id]) => id)]
        }
      )
    )
  )
