/**
 * One setting at one value: events are published, delivered, refused, corrected and compared as ever, and what is in the
 * databases afterwards is judged. Whatever the setting does, it is the same as without, or something is refused, says
 * why, and goes on when the setting is gone.
 */
import { randomUUID } from "node:crypto"
import * as SqlClient from "@effect/sql/SqlClient"
import * as Cause from "effect/Cause"
import * as ConfigProvider from "effect/ConfigProvider"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as FiberRef from "effect/FiberRef"
import * as HashSet from "effect/HashSet"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as LogLevel from "effect/LogLevel"
import * as Schedule from "effect/Schedule"
import * as BatchFailures from "../../../src/BatchFailures.ts"
import * as ClickHouse from "../../../src/ClickHouse.ts"
import * as ClickHouseSink from "../../../src/ClickHouseSink.ts"
import * as Config from "../../../src/Config.ts"
import { EventId } from "../../../src/Event.ts"
import * as OutboxStore from "../../../src/OutboxStore.ts"
import * as Postgres from "../../../src/Postgres.ts"
import * as Relay from "../../../src/Relay.ts"
import * as Verification from "../../../src/Verification.ts"
import type { Proxy } from "../../support/proxy.ts"
import { digest } from "../journal.ts"
import { post } from "./values.ts"

/** What came of a trial. */
export type Outcome =
  | { readonly is: "the same" }
  /** Something said no, and everything arrived once the setting was gone. */
  | { readonly is: "refused"; readonly says: string }
  | { readonly is: "wrong"; readonly violations: ReadonlyArray<string> }

/** The databases of trials that follow each other. */
export interface Lane {
  readonly postgresUrl: string
  /** To ClickHouse, for relays: it loses an answer of each trial. */
  readonly proxy: Proxy
  readonly clickHouseUrl: string
  readonly database: string
}

/** Who the trial is made as. Everything else is as it is by default. */
export interface Identity {
  readonly postgresUrl?: string
  readonly clickHouseUser?: string
}

const VARIABLES = {
  OUTBOX_ENVIRONMENT: "swept",
  OUTBOX_RETRY_BASE: "1 millis",
  OUTBOX_RETRY_CAP: "20 millis",
  OUTBOX_WORKERS: "1",
  OUTBOX_SHUTDOWN_GRACE: "1 second",
  DATABASE_CONNECT_TIMEOUT: "2 seconds",
  CLICKHOUSE_REQUEST_TIMEOUT: "2 seconds"
}

const services = (lane: Lane, { clickHouseUser = "default", postgresUrl = lane.postgresUrl }: Identity) =>
  Layer.mergeAll(Verification.layer, BatchFailures.layer).pipe(
    Layer.provideMerge(Layer.mergeAll(OutboxStore.layerConfig, ClickHouseSink.layerConfig)),
    Layer.provideMerge(Layer.mergeAll(Postgres.layerConfig, ClickHouse.layerConfig)),
    Layer.provideMerge(
      Layer.setConfigProvider(
        ConfigProvider.fromMap(
          new Map(
            Object.entries({
              ...VARIABLES,
              DATABASE_URL: postgresUrl,
              CLICKHOUSE_URL: lane.proxy.url,
              CLICKHOUSE_DATABASE: lane.database,
              CLICKHOUSE_USER: clickHouseUser
            })
          )
        )
      )
    )
  )

interface Published {
  readonly id: string
  readonly type: string
  /** UTC, to the microsecond. */
  readonly time: string
  readonly environment: string
  readonly context: string
  readonly version: number
}

const event = (n: number, context: string, given: Partial<Published> = {}): Published => ({
  id: randomUUID(),
  type: `swept_${n % 2}`,
  time: `2026-0${1 + (n % 2)}-15 12:00:0${n % 10}.123456`,
  environment: "swept",
  version: n,
  ...given,
  context
})

/** What every parser and every setting of one has an opinion about. Two months, so that a batch makes two parts. */
const good = (): ReadonlyArray<Published> => [
  event(0, '{"n": 1, "text": "é😀 \\\\ \\" \\t \\n / <", "empty": "", "none": "\\\\N", "tags": ["a", "b"]}'),
  event(
    1,
    '{"a.b": 1, "a": {"b": 2}, "mixed": [true, 2, "x", 2.5], "deep": [[true], [2]], "objects": [{"x": 1}, {"y": [1, 2.5]}]}'
  ),
  event(2, '{"large": 18446744073709551615, "small": -9223372036854775808, "exact": [9007199254740993], "price": 1.5}'),
  event(
    3,
    '{"date": "2024-01-01", "time": "2024-01-01T00:00:00Z", "dates": ["2024-01-01"], "digits": "12", "yes": "true", "no": false}'
  ),
  event(4, '{"nested": {"a": {"b": {"c": {"d": {"e": [[[1]]]}}}}}}', { version: 9_007_199_254_740_991 }),
  // What is empty, or what a setting takes for NULL.
  event(5, "{}", { environment: "1", type: "swept" })
]

const ACTOR = BatchFailures.Actor.make("sweep")
const REFUSED = '{"n": 123456789012345678901234}'
const CORRECTED = '{"n": 1}'

const publish = (events: ReadonlyArray<Published>) =>
  Effect.flatMap(SqlClient.SqlClient, (sql) =>
    Effect.forEach(
      events,
      ({ context, environment, id, time, type, version }) =>
        sql`SELECT outbox.publish(${type}, ${context}::jsonb, ${`${time}+00`}::timestamptz, ${environment}, ${version}, ${id})`
    )
  ).pipe(Effect.asVoid)

/** A batch that fails so often, or has to wait for somebody, is not delivered. */
const STUCK_AFTER = 6
const PATIENCE = Duration.seconds(60)

const stuck = Effect.flatMap(
  SqlClient.SqlClient,
  (sql) => sql<{ reason: string }>`
    SELECT coalesce(error_class, '') || coalesce(' ' || error_code, '') || ': ' || left(coalesce(error_message, ''), 200) AS reason
    FROM outbox.batch_status
    WHERE state = 'blocked' OR (state IN ('retrying', 'leased') AND attempts >= ${STUCK_AFTER})
    LIMIT 1
  `
).pipe(
  Effect.orDie,
  Effect.map(([row]) => row?.reason)
)

const drain = Effect.flatMap(Effect.all([Config.relay, Config.outbox]), ([relay, outbox]) =>
  Relay.make({ ...relay, ...outbox })
).pipe(
  Effect.flatMap((relay) => relay.drain),
  Effect.timeoutFail({ duration: PATIENCE, onTimeout: () => new Error("nothing moves") })
)

/** Delivers everything, or fails with what stands in the way. */
const deliver = (observer: SqlClient.SqlClient) =>
  Effect.suspend(() => {
    const blocked = stuck.pipe(
      Effect.provideService(SqlClient.SqlClient, observer),
      Effect.flatMap((reason) => (reason === undefined ? Effect.void : Effect.fail(new Error(reason)))),
      Effect.repeat(Schedule.spaced("30 millis"))
    )
    return Effect.raceFirst(drain, blocked)
  })

const LOSES_ANSWER = /insert_deduplication_token=/

/** All that is done under the setting. */
const use = (
  lane: Lane,
  observer: SqlClient.SqlClient,
  events: ReadonlyArray<Published>,
  [neighbour, refused]: readonly [Published, Published]
) =>
  Effect.gen(function* () {
    const since = new Date(Date.now() - 1_000)
    yield* publish(events)
    yield* lane.proxy.cutNext(({ from, request }) => (from === "server" && LOSES_ANSWER.test(request) ? 0 : undefined))
    yield* deliver(observer)
    yield* publish([neighbour, refused])
    yield* deliver(observer)
    const verification = yield* Verification.Verification
    const failures = yield* BatchFailures.BatchFailures
    const before = yield* verification.verify({ since, requeueAs: ACTOR })
    yield* deliver(observer)
    const open = yield* failures.list({ state: "open" })
    const [failure] = open
    if (failure !== undefined) {
      yield* failures.correct(failure.id, {
        eventId: EventId.make(refused.id),
        correction: `{"event_context": ${CORRECTED}}`,
        actor: ACTOR
      })
      yield* failures.replay(failure.id, { actor: ACTOR })
    }
    yield* deliver(observer)
    const { missing, doubled } = yield* verification.verify({ since })
    return [
      ...(before.missing.events > 0 ? [`verify misses ${before.missing.events} events that are there`] : []),
      ...(before.doubled.events > 0 ? [`verify finds ${before.doubled.events} events doubled that are not`] : []),
      ...(missing.events + doubled.events > 0 ? ["verify finds a difference in the end, where there is none"] : []),
      ...(open.length === 1 ? [] : [`there were ${open.length} failures, of one refused event`])
    ]
  })

const READ = `
  SELECT toString(event_id), event_type, formatDateTime(event_date_time, '%F %T.%f', 'UTC'), environment, toJSONString(event_context),
    toString(metadata_version)
  FROM event_log
  SETTINGS json_type_escape_dots_in_keys = 1
  FORMAT JSONCompactEachRow`

/** What differs from what was published. An event that was never replayed is still a failure. */
const judge = (lane: Lane, observer: SqlClient.SqlClient, committed: ReadonlyArray<Published>, refusedId: string) =>
  Effect.gen(function* () {
    const { text } = yield* post(`${lane.clickHouseUrl}/?database=${lane.database}`, READ)
    const rows = text
      .split("\n")
      .flatMap((line): ReadonlyArray<ReadonlyArray<string>> => (line === "" ? [] : [JSON.parse(line)]))
    const failed = yield* Effect.orDie(
      observer<{
        id: string
      }>`SELECT event_id::text AS id FROM outbox.failed_event WHERE state = 'open' AND replayed_at IS NULL`
    )
    const contents = new Map<string, Array<string>>()
    for (const [id = "", eventType = "", eventDateTime = "", environment = "", context = "", version = ""] of rows) {
      const content = {
        eventType,
        eventDateTime,
        environment,
        context: JSON.parse(context),
        metadataVersion: Number(version)
      }
      contents.set(id, [...(contents.get(id) ?? []), digest(content)])
    }
    const known = new Set(committed.map(({ id }) => id))
    return [
      ...committed.flatMap(({ context, environment, id, time, type, version }) => {
        const waits = failed.filter((one) => one.id === id).length
        const found = contents.get(id) ?? []
        if (id === refusedId && found.length === 0 && waits === 1) return []
        if (found.length === 0) return [waits > 0 ? `condemned, though it is good: ${context}` : `missing: ${context}`]
        if (found.length > 1) return [`doubled: ${context}`]
        if (waits > 0) return [`in ClickHouse and in a failure: ${context}`]
        const expected = digest({
          eventType: type,
          eventDateTime: time,
          environment,
          context: JSON.parse(id === refusedId ? CORRECTED : context),
          metadataVersion: version
        })
        const row = rows.find(([rowId]) => rowId === id)
        return found[0] === expected ? [] : [`changed: ${context} at ${time} is ${row?.slice(1).join(", ")}`]
      }),
      ...[...contents.keys()].filter((id) => !known.has(id)).map((id) => `nobody has published ${id}`)
    ]
  })

/** What was said last, in a line. */
const inShort = (cause: Cause.Cause<unknown>): string => {
  const error = Cause.squash(cause)
  return (error instanceof Error ? error.message : String(error)).replaceAll(/\s+/g, " ").slice(0, 200)
}

export const trial = (lane: Lane, identity: Identity): Effect.Effect<Outcome, never, SqlClient.SqlClient> =>
  Effect.gen(function* () {
    const observer = yield* SqlClient.SqlClient
    const events = good()
    const refused = event(1, REFUSED)
    const neighbour = event(0, '{"n": 2}')
    const said: Array<string> = []
    const heard = Logger.make<unknown, void>(({ logLevel, message }) => {
      if (LogLevel.greaterThanEqual(logLevel, LogLevel.Warning)) said.push(String(message))
    })
    const under =
      (identity: Identity) =>
      <A, E, R>(effect: Effect.Effect<A, E, R>) =>
        effect.pipe(
          Effect.provide(services(lane, identity)),
          Effect.locally(FiberRef.currentLoggers, HashSet.make(heard)),
          Effect.exit
        )

    const used = yield* under(identity)(use(lane, observer, events, [neighbour, refused]))
    yield* lane.proxy.cutNext(() => undefined)
    const committed = yield* Effect.orDie(observer<{ id: string }>`SELECT event_id::text AS id FROM outbox.event`)
    const ids = new Set(committed.map(({ id }) => id))
    const published = [...events, neighbour, refused].filter(({ id }) => ids.has(id))
    // What was told to be published is.
    const told = Exit.isSuccess(used) ? [...events, neighbour, refused].filter(({ id }) => !ids.has(id)) : []
    const healed = yield* under({})(
      Effect.zipRight(
        drain,
        Effect.flatMap(Verification.Verification, ({ verify }) => verify())
      )
    )
    const violations = [
      ...told.map(({ context }) => `published, and is not there: ${context}`),
      ...(Exit.isSuccess(used) ? used.value : []),
      ...(Exit.isSuccess(healed) ? [] : [`without the setting it goes on to be refused: ${inShort(healed.cause)}`]),
      ...(yield* judge(lane, observer, published, refused.id))
    ]
    yield* forget(lane, observer)
    if (violations.length > 0) {
      const says = Exit.isSuccess(used) ? [] : [`refused: ${inShort(used.cause)}`]
      return { is: "wrong", violations: [...says, ...violations, ...said.slice(-3)] } as const
    }
    return Exit.isSuccess(used)
      ? ({ is: "the same" } as const)
      : ({ is: "refused", says: inShort(used.cause) } as const)
  })

/** So that the next trial finds nothing. */
const forget = (lane: Lane, sql: SqlClient.SqlClient) =>
  Effect.gen(function* () {
    yield* sql`TRUNCATE outbox.batch_failure_event, outbox.batch_failure, outbox.batch, outbox.event, outbox.audit CASCADE`
    yield* post(`${lane.clickHouseUrl}/?database=${lane.database}`, "TRUNCATE TABLE event_log")
  }).pipe(Effect.orDie)
