/** The logins of docker-compose.yml, made in a real Postgres as its service makes them. */
import { readFileSync } from "node:fs"
import { expect, layer } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Pg from "pg"
import * as Cli from "../support/cli.ts"
import * as Environment from "../support/environment.ts"

const LOGINS = readFileSync(new URL("../../deploy/compose/logins.sql", import.meta.url), "utf8")

const urlOf = (user?: string, password = "") =>
  Effect.map(Environment.Environment, ({ DATABASE_URL = "" }) => {
    const url = new URL(DATABASE_URL)
    if (user !== undefined) Object.assign(url, { username: user, password })
    return url.href
  })

/** Runs statements in a session of its own: as somebody who logs in, or as the owner. */
const run = (statements: string, login?: { readonly user: string; readonly password: string }, options = "") =>
  Effect.flatMap(urlOf(login?.user, login?.password), (connectionString) =>
    Effect.tryPromise({
      try: async () => {
        const client = new Pg.Client({ connectionString, options })
        await client.connect()
        await client.query(statements).finally(() => client.end())
      },
      catch: (error) => (error instanceof Error ? error.message : String(error))
    })
  )

const makeLogins = (password: string) =>
  run(LOGINS, undefined, `-c compose.relay=${password}relay -c compose.app=${password}app`)

layer(Environment.layer(), { excludeTestServices: true })((it) => {
  it.scoped(
    "The logins of docker-compose.yml publish and deliver, own nothing, and have the passwords of the latest start",
    () =>
      Effect.gen(function* () {
        yield* run("CREATE TABLE public.users (email text PRIMARY KEY)")
        yield* Effect.addFinalizer(() => Effect.orDie(run("DROP OWNED BY relay, app; DROP ROLE relay, app")))
        yield* makeLogins("first")
        yield* makeLogins("second")
        const app = { user: "app", password: "secondapp" }
        yield* run("INSERT INTO public.users VALUES ('ada'); SELECT outbox.publish('logins_tested', '{}')", app)
        const DATABASE_URL = yield* urlOf("relay", "secondrelay")
        const variables = { DATABASE_URL }
        const ended = yield* Cli.run(["relay", "--until-empty"], { variables })
        expect(ended.code).toBe(0)
        expect((yield* Cli.run(["status"], { variables })).stdout).toMatch(/^undelivered +0 events/)
        expect((yield* Cli.run(["pause", "--reason", "test"], { variables })).code).toBe(0)
        expect((yield* Cli.run(["resume"], { variables })).code).toBe(0)
        for (const login of [app, { user: "relay", password: "secondrelay" }]) {
          expect(yield* Effect.flip(run("CREATE SCHEMA theirs", login))).toContain("permission denied")
          expect(yield* Effect.flip(run("UPDATE outbox.event SET event_type = 'x'", login))).toContain(
            "permission denied"
          )
        }
      })
  )
})
