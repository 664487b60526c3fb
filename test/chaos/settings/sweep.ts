/** Every setting that ClickHouse's users and Postgres' roles may have, one at a time. */
import { createHash } from "node:crypto"
import * as SqlClient from "@effect/sql/SqlClient"
import * as PgClient from "@effect/sql-pg/PgClient"
import * as Arr from "effect/Array"
import * as Effect from "effect/Effect"
import * as Queue from "effect/Queue"
import * as Random from "effect/Random"
import * as Redacted from "effect/Redacted"
import * as EmbeddedPostgres from "../../../src/embedded/EmbeddedPostgres.ts"
import * as Migrations from "../../../src/Migrations.ts"
import * as Profiles from "../../support/profiles.ts"
import * as Proxy from "../../support/proxy.ts"
import { type Lane, type Outcome, trial } from "./trial.ts"
import * as Values from "./values.ts"

export interface Tried {
  readonly setting: string
  readonly outcome: Outcome
}

/** Settings that only mean something together, tried as one. */
export const TOGETHER: Profiles.Profiles = {
  "results of one row, in part": { max_result_rows: 1, result_overflow_mode: "break", max_block_size: 1 },
  "reads in part": { max_rows_to_read: 1, read_overflow_mode: "break", max_block_size: 1 },
  "groups in part": { max_rows_to_group_by: 1, group_by_overflow_mode: "any" },
  "lists in part": { max_rows_in_set: 1, set_overflow_mode: "break" },
  "time in part": { max_execution_time: 1, timeout_overflow_mode: "break" },
  "answers from the cache": { use_query_cache: 1, query_cache_ttl: 600, query_cache_system_table_handling: "ignore" },
  "blocks of one row": {
    max_insert_block_size: 1,
    min_insert_block_size_rows: 1,
    min_insert_block_size_bytes: 1,
    max_insert_block_size_bytes: 1
  }
}

/** Those that lost, doubled or changed events before requests stated what they mean. */
export const FOUND: ReadonlyArray<Values.Setting> = [
  ["input_format_allow_errors_num", "10"],
  ["input_format_allow_errors_ratio", "0.5"],
  ["input_format_tsv_skip_first_lines", "1"],
  ["input_format_null_as_default", "0"],
  ["input_format_try_infer_variants", "1"],
  ["input_format_json_infer_array_of_dynamic_from_array_of_different_types", "0"],
  ["format_tsv_null_representation", "1"],
  ["allow_simdjson", "0"],
  ["compatibility", "23.8"],
  ["deduplicate_insert", "disable"],
  ["insert_deduplicate", "0"],
  ["async_insert", "1"],
  ["max_insert_threads", "4"],
  ["limit", "1"],
  ["offset", "1"],
  ["additional_table_filters", "{'event_log': '1 = 0'}"],
  ["additional_result_filter", "1 = 0"],
  ["session_timezone", "America/New_York"]
].map(([name = "", value = ""]) => ({ server: "ClickHouse", name, value }))

const describe = ({ name, server, value }: Values.Setting): string =>
  value === "" ? name : `${server} ${name} = ${value}`

/**
 * A table as the docs allow one of one's own: its times have no zone, and columns have defaults. Whatever a setting makes
 * of what is empty or has no zone shows there.
 */
const TABLE = `
  CREATE TABLE event_log (
    event_id UUID, event_date_time DateTime64(6), event_type LowCardinality(String), environment String DEFAULT 'a default',
    event_context JSON(max_dynamic_paths = 256), metadata_version UInt64 DEFAULT 7, trace_id String DEFAULT 'a default'
  )
  ENGINE = MergeTree PARTITION BY toYYYYMM(event_date_time) ORDER BY (event_type, event_date_time, event_id)
  SETTINGS non_replicated_deduplication_window = 10000`

const inDatabase = (url: string, database: string): string => {
  const changed = new URL(url)
  changed.pathname = `/${database}`
  return changed.href
}

const asRole = (url: string, role: string): string => {
  const changed = new URL(url)
  changed.username = role
  changed.password = "swept"
  return changed.href
}

const overPostgres = (url: string) => Effect.provide(PgClient.layer({ url: Redacted.make(url) }))

/** Each has databases of its own on the same servers. */
const makeLane = (postgresUrl: string, clickHouseUrl: string) => (n: number) =>
  Effect.gen(function* () {
    const database = `lane_${n}`
    const role = `swept_${n}`
    const lane: Lane = {
      postgresUrl: inDatabase(postgresUrl, database),
      proxy: yield* Proxy.make(clickHouseUrl),
      clickHouseUrl,
      database
    }
    yield* Effect.flatMap(SqlClient.SqlClient, (sql) => sql.unsafe(`CREATE DATABASE ${database}`)).pipe(
      overPostgres(postgresUrl)
    )
    yield* Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      yield* Migrations.postgres
      yield* sql.unsafe(
        `CREATE ROLE ${role} LOGIN PASSWORD 'swept' IN ROLE outbox_publisher, outbox_relay, outbox_operator`
      )
    }).pipe(overPostgres(lane.postgresUrl))
    yield* Values.post(clickHouseUrl, `CREATE DATABASE ${database}`)
    yield* Values.post(`${clickHouseUrl}/?database=${database}`, TABLE)
    return { lane, role }
  })

type Makes = Effect.Effect.Success<ReturnType<ReturnType<typeof makeLane>>>

/** What is tried at once, and who has it: of ClickHouse a user, of Postgres the lane's role. */
interface Group {
  readonly settings: ReadonlyArray<Values.Setting>
  readonly user?: string
}

const tryGroup = ({ lane, role }: Makes, { settings, user }: Group) =>
  Effect.gen(function* () {
    if (user !== undefined) return yield* trial(lane, { clickHouseUser: user })
    const sql = yield* SqlClient.SqlClient
    yield* Effect.forEach(settings, ({ name, value }) =>
      Effect.orDie(sql.unsafe(`ALTER ROLE ${role} SET "${name}" = ${quote(value)}`))
    )
    const outcome = yield* trial(lane, { postgresUrl: asRole(lane.postgresUrl, role) })
    yield* Effect.orDie(sql.unsafe(`ALTER ROLE ${role} RESET ALL`))
    return outcome
  })

/** Whether a role may have it. */
const isTakenByPostgres = ({ name, value }: Values.Setting) =>
  Effect.flatMap(SqlClient.SqlClient, (sql) =>
    sql.unsafe(`CREATE ROLE probe; ALTER ROLE probe SET "${name}" = ${quote(value)}; DROP ROLE probe`)
  ).pipe(Effect.isSuccess)

const quote = (value: string): string => `'${value.replaceAll("'", "''")}'`

const some =
  (sample: number | undefined) =>
  <A>(all: ReadonlyArray<A>): Effect.Effect<ReadonlyArray<A>> =>
    Effect.map(Random.shuffle(all), (shuffled) => Arr.take(Arr.fromIterable(shuffled), sample ?? all.length))

/** Those of ClickHouse's that a profile may have: one that it may not have would keep all of them from being read. */
const chooseOf = (url: string, sample: number | undefined) =>
  Values.clickHouse(url).pipe(
    Effect.flatMap(some(sample)),
    Effect.map((chosen) => (sample === undefined ? chosen : [...FOUND, ...chosen])),
    Effect.flatMap(Effect.filter((setting) => Values.isTaken(url, setting), { concurrency: 4 }))
  )

export interface Plan {
  /** Which of them, by what {@link Tried} calls them; all unless given. */
  readonly only?: RegExp
  /** So many of them, whichever, and {@link FOUND}; all unless given. */
  readonly sample?: number
  /** How many trials at a time. */
  readonly lanes: number
  /**
   * How many settings in one trial, each another one. A group that changes something, or is refused, is halved until
   * only one is left. One by one is exact: in a group one setting could hide another.
   */
  readonly together: number
  readonly onTried?: (tried: Tried, of: number) => Effect.Effect<void>
}

/** On servers of its own. Ends when all were tried. */
export const sweep = ({ lanes, only = /^/, onTried = () => Effect.void, sample, together }: Plan) =>
  Effect.gen(function* () {
    const postgres = yield* EmbeddedPostgres.make()
    const ofRoles = yield* Values.postgres.pipe(
      Effect.flatMap(some(sample)),
      Effect.flatMap(Effect.filter(isTakenByPostgres)),
      overPostgres(postgres.url)
    )
    const ofUsers = yield* Effect.scoped(Effect.flatMap(Profiles.make({}), ({ url }) => chooseOf(url, sample)))
    const isChosen = (name: string) => only.test(name)
    const groupsOf = (all: ReadonlyArray<Values.Setting>) =>
      group(
        all.filter((setting) => isChosen(describe(setting))),
        together
      )
    const named = Object.keys(TOGETHER).filter(isChosen)
    const groupsOfUsers = groupsOf(ofUsers)
    const clickHouse = yield* Profiles.make({ ...TOGETHER_USERS, ...usersOf(groupsOfUsers) })
    const jobs = [
      ...named.map((name): Group => ({ settings: [{ server: "ClickHouse", name, value: "" }], user: userOf(name) })),
      ...groupsOfUsers.map((settings): Group => ({ settings, user: userOf(keyOf(settings)) })),
      ...groupsOf(ofRoles).map((settings): Group => ({ settings }))
    ]
    const of = jobs.reduce((sum, { settings }) => sum + settings.length, 0)
    const queue = yield* Queue.unbounded<Group>()
    yield* Queue.offerAll(queue, jobs)
    const tried: Array<Tried> = []
    let made = 0
    const run = Effect.gen(function* () {
      const next = Effect.suspend(() => makeLane(postgres.url, clickHouse.url)(made++))
      let lane = yield* next
      for (let job = yield* Queue.poll(queue); job._tag === "Some"; job = yield* Queue.poll(queue)) {
        const { settings, user } = job.value
        const outcome = yield* tryGroup(lane, job.value).pipe(overPostgres(lane.lane.postgresUrl))
        // What went wrong may go on to be.
        if (outcome.is === "wrong") lane = yield* next
        if (outcome.is !== "the same" && settings.length > 1) {
          yield* Queue.offerAll(
            queue,
            halves(settings).map((half) => ({ settings: half, ...(user && { user: userOf(keyOf(half)) }) }))
          )
          continue
        }
        for (const setting of settings) {
          const one = { setting: describe(setting), outcome }
          tried.push(one)
          yield* onTried(one, of)
        }
      }
    })
    yield* Effect.all(
      Arr.makeBy(lanes, () => run),
      { concurrency: "unbounded", discard: true }
    )
    return tried
  }).pipe(Effect.scoped)

/** No two of a group are the same setting. */
const group = (
  settings: ReadonlyArray<Values.Setting>,
  together: number
): ReadonlyArray<ReadonlyArray<Values.Setting>> => {
  const seen = new Map<string, number>()
  const rounds = Arr.groupBy(settings, ({ name }) => {
    seen.set(name, (seen.get(name) ?? 0) + 1)
    return String(seen.get(name))
  })
  return Object.values(rounds).flatMap((round) => Arr.chunksOf(round, together))
}

const halves = <A>(all: ReadonlyArray<A>): ReadonlyArray<ReadonlyArray<A>> =>
  Arr.splitAt(all, Math.ceil(all.length / 2))

const keyOf = (settings: ReadonlyArray<Values.Setting>): string => settings.map(describe).join()
const userOf = (key: string): string => `user_${createHash("sha1").update(key).digest("hex")}`

/** One for each group, and for each part that it may be halved into. */
const usersOf = (groups: ReadonlyArray<ReadonlyArray<Values.Setting>>): Profiles.Profiles =>
  Object.fromEntries(
    groups.flatMap(function parts(settings): ReadonlyArray<readonly [string, Profiles.Profiles[string]]> {
      const user = [
        userOf(keyOf(settings)),
        Object.fromEntries(settings.map(({ name, value }) => [name, value]))
      ] as const
      return settings.length > 1 ? [user, ...halves(settings).flatMap(parts)] : [user]
    })
  )

const TOGETHER_USERS: Profiles.Profiles = Object.fromEntries(
  Object.entries(TOGETHER).map(([name, profile]) => [userOf(name), profile])
)
