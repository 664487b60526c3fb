import { readFileSync } from "node:fs"
import { expect, it } from "@effect/vitest"
import { all, isConfig } from "effect/Config"
import * as ConfigProvider from "effect/ConfigProvider"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Configuration from "../../src/Config.ts"

const everything = all(Object.values<unknown>(Configuration).filter(isConfig))

/** What everything comes to under these variables, and the names that were asked for meanwhile. */
const load = (variables: Iterable<readonly [string, string]>) => {
  const names = new Set<string>()
  const provider = ConfigProvider.fromMap(new Map(variables)).pipe(
    ConfigProvider.mapInputPath((name) => {
      names.add(name)
      return name
    })
  )
  const loaded = Effect.runSync(Effect.either(provider.load(everything)))
  return { loaded, names: [...names].sort() }
}

const REQUIRED: ReadonlyArray<readonly [string, string]> = [
  ["DATABASE_URL", "postgres://localhost"],
  ["CLICKHOUSE_URL", "http://localhost"]
]

const contents = (path: string) => readFileSync(new URL(path, import.meta.url), "utf8")

const inCode = (cell = ""): string | undefined => /^`([^`]+)`$/.exec(cell.trim())?.[1]

/** Rows of the tables: a variable, and its default where the cell is nothing but one. */
const documented = contents("../../docs/configuration.md")
  .split("\n")
  .map((line) => line.split("|"))
  .flatMap(([, variable, , fallback]) => {
    const name = inCode(variable)
    return name === undefined ? [] : [{ name, fallback: inCode(fallback) }]
  })

const example = [...contents("../../.env.example").matchAll(/^(#?)([A-Z_]+)=(.*)$/gm)].map(
  ([, comment, name = "", value = ""]) => ({ required: comment === "", name, value })
)

const namesOf = (variables: ReadonlyArray<{ readonly name: string }>) => variables.map(({ name }) => name).sort()

it("Configuration docs/configuration.md lists every variable that is read, and no other", () => {
  expect(namesOf(documented)).toEqual(load(REQUIRED).names)
})

it("Configuration .env.example lists every variable that is read, and no other", () => {
  expect(namesOf(example)).toEqual(load(REQUIRED).names)
})

it("Configuration the defaults in docs/configuration.md are those in use", () => {
  const defaults = documented.flatMap(({ fallback, name }) =>
    fallback === undefined ? [] : [[name, fallback] as const]
  )
  expect(defaults.length).toBeGreaterThan(10)
  expect(load([...REQUIRED, ...defaults]).loaded).toEqual(load(REQUIRED).loaded)
})

it("Configuration the values in .env.example are valid, and those without a comment are all that must be set", () => {
  const required = example.filter(({ required }) => required)
  expect(namesOf(required)).toEqual(REQUIRED.map(([name]) => name).sort())
  const { loaded } = load(example.map(({ name, value }) => [name, value]))
  expect(Either.mapLeft(loaded, Configuration.explain)).toEqual(Either.right(expect.anything()))
})

it("Configuration what is missing is named, all of it at once", () => {
  const { loaded } = load([])
  expect(Either.mapLeft(loaded, Configuration.explain)).toEqual(
    Either.left("DATABASE_URL is not set\nCLICKHOUSE_URL is not set")
  )
})

it.each([
  ["DATABASE_URL", "postgres://ada:pa#hunter2@localhost/app", "must have no # in it: .*# as %23"],
  ["DATABASE_URL", "postgres://ada:1#hunter2@localhost/app", "must have no # in it: .*# as %23"],
  ["DATABASE_URL", "postgres://ada:hun/ter2@localhost/app", "is not a URL that can be read: .*/ as %2F"],
  ["DATABASE_URL", '"postgres://ada:hunter2@localhost/app"', "must not be in quotes"],
  ["DATABASE_URL", "postgres://ada:hunter2@a:5432,b:5432/app", "must name one host"],
  ["DATABASE_URL", "postgres://ada:hunter2@a,b/app", "must name one host"],
  ["DATABASE_URL", "postgres://ada:hunter2@db/app?SSLMODE=verify-full", 'has a parameter "SSLMODE".*mean sslmode\\?'],
  ["DATABASE_URL", "postgres://ada:hunter2@db/app?ssl_mode=require", 'has a parameter "ssl_mode".*mean sslmode\\?'],
  ["DATABASE_URL", "postgres://ada:1?hunter2@db/app", "has a parameter that is none"],
  ["CLICKHOUSE_URL", "http://localhost:8123/shop", "must have no path: CLICKHOUSE_DATABASE names the database"],
  ["CLICKHOUSE_URL", "'http://localhost:8123'", "must not be in quotes"],
  ["CLICKHOUSE_TABLE", "shop.event_log", "must be a table's name alone: CLICKHOUSE_DATABASE"]
])("Configuration a %s of %s is said to be what is wrong with it, without the password", (name, value, reason) => {
  const { loaded } = load([...REQUIRED.filter(([required]) => required !== name), [name, value]])
  const explained = Either.mapLeft(loaded, Configuration.explain)
  expect(explained).toEqual(Either.left(expect.stringMatching(new RegExp(`^${name}: ${reason}`))))
  expect(explained).not.toEqual(Either.left(expect.stringMatching("hunter2|ter2")))
})

it.each([
  "postgres://localhost",
  "postgresql://ada:p%40%23%2F%3A@db.example.com:5433/app?sslmode=verify-full&sslrootcert=/ca.pem",
  "postgres://ada@%2Fvar%2Frun%2Fpostgresql/app",
  "postgres:///app?host=/var/run/postgresql",
  "postgres://[::1]:5432/app"
])("Configuration a DATABASE_URL of %s is taken", (url) => {
  expect(
    load([
      ["CLICKHOUSE_URL", "http://localhost/"],
      ["DATABASE_URL", url]
    ]).loaded
  ).toEqual(Either.right(expect.anything()))
})

it.each([
  ["DATABASE_URL", "mysql://ada:hunter2@localhost"],
  ["CLICKHOUSE_URL", "localhost:8123/hunter2"],
  ["DATABASE_MAX_CONNECTIONS", "2"],
  ["OUTBOX_BATCH_EVENTS", "many"],
  ["OUTBOX_WORKERS", "9"],
  ["OUTBOX_LINGER", "soon"],
  ["OUTBOX_LEASE", "-1 second"],
  ["CLICKHOUSE_COMPRESSION", "zip"],
  ["LOG_FORMAT", "xml"],
  ["OUTBOX_HTTP_TOKENS", "ada operator hunter2"],
  ["OUTBOX_HTTP_TOKENS", `ada root ${"0".repeat(64)}`],
  ["OUTBOX_HTTP_TOKENS", `ada operator ${"0".repeat(64)} hunter2`],
  ["OUTBOX_HTTP_TOKENS", `ada operator ${"0".repeat(64)},bob reader ${"0".repeat(64)}`],
  ["OUTBOX_HTTP_TOKENS_FILE", "/no/such/file"],
  ["OUTBOX_HTTP_PROXY_ADDRESSES", "proxy.example.com"],
  ["OUTBOX_HTTP_PROXY_ADDRESSES", "10.1.0.0/33"],
  ["OUTBOX_HTTP_PROXY_HEADER", "X-Forwarded-User:"]
])("Configuration a wrong %s is named, and no password is shown", (name, value) => {
  const { loaded } = load([...REQUIRED, [name, value]])
  const explained = Either.mapLeft(loaded, Configuration.explain)
  expect(explained).toEqual(Either.left(expect.stringMatching(new RegExp(`^${name}: .+$`))))
  expect(explained).not.toEqual(Either.left(expect.stringContaining("hunter2")))
})
