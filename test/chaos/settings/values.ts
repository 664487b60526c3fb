/** Which settings there are, and which values each is tried at: the servers say so, so that a newer one brings its own. */
import * as SqlClient from "@effect/sql/SqlClient"
import * as Effect from "effect/Effect"

/** A setting at a value that is not its default. */
export interface Setting {
  readonly server: "ClickHouse" | "Postgres"
  readonly name: string
  readonly value: string
}

/** Sends a statement over HTTP and returns the answer, whatever it is. */
export const post = (url: string, statement: string) =>
  Effect.promise(async () => {
    // Plain: some settings are about how answers are compressed, and one breaks them.
    const response = await fetch(url, { method: "POST", body: statement, headers: { "accept-encoding": "identity" } })
    return { ok: response.ok, text: await response.text() }
  })

const HUGE = "1000000000"

/** By type, for those whose values are not asked for. */
const clickHouseValues = (type: string, standard: string): ReadonlyArray<string> => {
  if (type === "Bool") return [standard === "1" ? "0" : "1"]
  if (/Auto$/.test(type)) return ["0", "1"]
  if (/^(U?Int\d+|NonZeroUInt64|Milliseconds|Seconds|MaxThreads)$/.test(type)) return ["0", "1", HUGE]
  if (/^(Float|Double)$/.test(type)) return ["0", "0.5", "1000000"]
  if (type === "Char") return [";", "\\t"]
  return ["x", "0"]
}

/** Those that a word like any other says nothing about. The table is called as the sweep calls it. */
const TELLING: Readonly<Record<string, ReadonlyArray<string>>> = {
  additional_table_filters: ["{'event_log': '1 = 0'}", "{'system.settings': '1 = 0', 'system.tables': '1 = 0'}"],
  additional_result_filter: ["1 = 0"],
  compatibility: ["20.1", "23.8", "25.8"],
  format_tsv_null_representation: ["swept", "1"],
  function_implementation: ["default"],
  ignore_data_skipping_indices: ["x"],
  http_response_headers: ["{'X-ClickHouse-Summary': ''}"],
  network_compression_method: ["NONE", "ZSTD"],
  session_timezone: ["America/New_York", "Asia/Kathmandu"]
}

const alternatives = (url: string, name: string) =>
  Effect.map(post(`${url}/?${name}=no+such+value`, "SELECT 1"), ({ text }) => {
    const named = /Must be one of \[(.*?)\]/.exec(text)?.[1] ?? ""
    return [...named.matchAll(/'([^']*)'/g)].map(([, value = ""]) => value)
  })

/** Whether a profile of ClickHouse's may have it. */
export const isTaken = (url: string, { name, value }: Setting) =>
  Effect.map(post(`${url}/?${new URLSearchParams({ [name]: value })}`, "SELECT 1"), ({ ok, text }) => {
    // What the query is refused for is left to be found out, what the value is refused for is no value.
    return ok || !/^Code: (6|19|26|27|36|43|72|115|145|212|457|467|718)\./.test(text)
  })

/** Everything that a user may change, at values other than the defaults. Some of them may not be {@link isTaken}. */
export const clickHouse = (url: string): Effect.Effect<ReadonlyArray<Setting>> =>
  Effect.gen(function* () {
    const { text } = yield* post(
      url,
      `SELECT name, type, default FROM system.settings
       WHERE NOT is_obsolete AND alias_for = '' AND NOT readonly ORDER BY name FORMAT JSONCompactEachRow`
    )
    const settings = yield* Effect.forEach(
      text.trim().split("\n"),
      (line) => {
        const [name = "", type = "", standard = ""]: ReadonlyArray<string> = JSON.parse(line)
        const asked = /^(Bool|String|Map|Char|U?Int\d+|NonZeroUInt64|Milliseconds|Seconds|Float|Double)$/.test(type)
          ? Effect.succeed([])
          : alternatives(url, name)
        return Effect.map(asked, (named): ReadonlyArray<Setting> => {
          const values = TELLING[name] ?? (named.length > 0 ? named : clickHouseValues(type, standard))
          return values.filter((value) => value !== standard).map((value) => ({ server: "ClickHouse", name, value }))
        })
      },
      { concurrency: 4 }
    )
    return settings.flat()
  })

interface PostgresSetting {
  readonly name: string
  readonly type: string
  readonly standard: string | null
  readonly smallest: string | null
  readonly largest: string | null
  readonly named: ReadonlyArray<string> | null
}

const POSTGRES_TELLING: Readonly<Record<string, ReadonlyArray<string>>> = {
  DateStyle: ["SQL, DMY", "German"],
  TimeZone: ["America/New_York", "Asia/Kathmandu"],
  client_encoding: ["LATIN1", "SQL_ASCII"],
  search_path: ["pg_catalog", "nowhere"],
  timezone_abbreviations: ["India"],
  lc_messages: ["C"],
  lc_monetary: ["C"],
  lc_numeric: ["C"],
  lc_time: ["C"],
  default_tablespace: ["nowhere"],
  temp_tablespaces: ["nowhere"],
  default_table_access_method: ["nothing"],
  default_text_search_config: ["simple"],
  role: ["pg_monitor"],
  session_authorization: ["nobody"]
}

const postgresValues = ({ largest, name, named, smallest, standard, type }: PostgresSetting): ReadonlyArray<string> => {
  const telling = POSTGRES_TELLING[name]
  if (telling !== undefined) return telling
  if (type === "bool") return [standard === "on" ? "off" : "on"]
  if (type === "enum") return named ?? []
  if (type === "integer" || type === "real") return [smallest ?? "0", type === "integer" ? "1" : "0.5", largest ?? HUGE]
  return ["x"]
}

/** Everything that a role or a database may have set. */
export const postgres: Effect.Effect<ReadonlyArray<Setting>, never, SqlClient.SqlClient> = Effect.flatMap(
  SqlClient.SqlClient,
  (sql) => sql<PostgresSetting>`
    SELECT
      name, vartype AS type, boot_val AS standard, min_val AS smallest, max_val AS largest, enumvals AS named
    FROM pg_settings
    WHERE context IN ('user', 'superuser') AND name NOT LIKE '%.%'
    ORDER BY name
  `
).pipe(
  Effect.orDie,
  Effect.map((settings) =>
    settings.flatMap((setting) =>
      [...new Set(postgresValues(setting))]
        .filter((value) => value !== setting.standard)
        .map((value): Setting => ({ server: "Postgres", name: setting.name, value }))
    )
  )
)
