/** Every setting that ClickHouse's users and Postgres' roles may have, one at a time. */
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
  // With a setting beside it that is sent with its default.
  "tuples as objects": { enable_named_columns_in_function_tuple: 1, input_format_null_as_default: 0 },
  "blocks of one row": {
    max_insert_block_size: 1,
    min_insert_block_size_rows: 1,
    min_insert_block_size_bytes: 1,
    max_insert_block_size_bytes: 1
  }
}

const COMBINED = Object.keys(TOGETHER).map((name): Values.Setting => ({ server: "ClickHouse", name, value: "" }))

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
  ["session_timezone", "America/New_York"],
  ["exclude_materialize_skip_indexes_on_insert", "0"]
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
const laneMaker = (postgresUrl: string) => {
  let made = 0
  return (clickHouseUrl: string) => makeLaneOf(postgresUrl, clickHouseUrl, made++)
}

const makeLaneOf = (postgresUrl: string, clickHouseUrl: string, n: number) =>
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

type Makes = Effect.Effect.Success<ReturnType<typeof makeLaneOf>>

/** What is tried at once, by a user of ClickHouse's with such a profile, or by the lane's role. */
interface Group {
  readonly settings: Arr.NonEmptyReadonlyArray<Values.Setting>
  readonly user: string | undefined
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
    Effect.flatMap(Effect.filter((setting) => Values.isTaken(url, setting), { concurrency: 4 })),
    Effect.map((chosen) => [...COMBINED, ...chosen])
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
    const chosen = [...ofUsers, ...ofRoles].filter((setting) => only.test(describe(setting)))
    const tried: Array<Tried> = []
    const tell = (one: Tried) =>
      Effect.zipRight(
        Effect.sync(() => tried.push(one)),
        onTried(one, chosen.length)
      )
    const makeLane = laneMaker(postgres.url)

    // ClickHouse reads its users when it starts, so each round of halves has a server of its own.
    let groups = group(chosen, together)
    while (groups.length > 0) {
      const left = yield* play(groups, { lanes, makeLane, tell })
      groups = left.flatMap(halves)
    }
    return tried
  }).pipe(Effect.scoped)

interface Table {
  readonly lanes: number
  readonly makeLane: (clickHouseUrl: string) => ReturnType<ReturnType<typeof laneMaker>>
  readonly tell: (tried: Tried) => Effect.Effect<void>
}

/** Tries each, and returns those that are to be halved. */
const play = (groups: ReadonlyArray<Settings>, { lanes, makeLane, tell }: Table) =>
  Effect.gen(function* () {
    const jobs = groups.map((settings, n) => ({
      settings,
      user: settings[0].server === "ClickHouse" ? `user_${n}` : undefined
    }))
    const clickHouse = yield* Profiles.make(
      Object.fromEntries(
        jobs.flatMap(({ settings, user }) => (user === undefined ? [] : [[user, profileOf(settings)]]))
      )
    )
    const queue = yield* Queue.unbounded<Group>()
    yield* Queue.offerAll(queue, jobs)
    const left: Array<Settings> = []
    const run = Effect.gen(function* () {
      let lane = yield* makeLane(clickHouse.url)
      for (let job = yield* Queue.poll(queue); job._tag === "Some"; job = yield* Queue.poll(queue)) {
        const { settings } = job.value
        const outcome = yield* tryGroup(lane, job.value).pipe(overPostgres(lane.lane.postgresUrl))
        // What went wrong may go on to be.
        if (outcome.is === "wrong") lane = yield* makeLane(clickHouse.url)
        if (outcome.is !== "the same" && settings.length > 1) left.push(settings)
        else yield* Effect.forEach(settings, (setting) => tell({ setting: describe(setting), outcome }))
      }
    })
    yield* Effect.all(
      Arr.makeBy(lanes, () => run),
      { concurrency: "unbounded", discard: true }
    )
    return left
  }).pipe(Effect.scoped)

type Settings = Group["settings"]

/** No two of a group are the same setting, and all are of one server. */
const group = (settings: ReadonlyArray<Values.Setting>, together: number): ReadonlyArray<Settings> => {
  const seen = new Map<string, number>()
  const rounds = Arr.groupBy(settings, ({ name, server }) => {
    const key = `${server} ${name}`
    seen.set(key, (seen.get(key) ?? 0) + 1)
    return `${server} ${seen.get(key)}`
  })
  return Object.values(rounds).flatMap((round) => Arr.chunksOf(round, together))
}

const halves = (settings: Settings): ReadonlyArray<Settings> => Arr.chunksOf(settings, Math.ceil(settings.length / 2))

/** What only means something together is one setting here, and several there. */
const profileOf = (settings: Settings): Profiles.Profiles[string] =>
  Object.fromEntries(settings.flatMap(({ name, value }) => Object.entries(TOGETHER[name] ?? { [name]: value })))
