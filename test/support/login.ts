/** Roles that log in, as an administrator makes them. */
import { randomUUID } from "node:crypto"
import * as SqlClient from "@effect/sql/SqlClient"
import * as Effect from "effect/Effect"
import * as Pg from "pg"
import { Environment } from "./environment.ts"

export interface Login {
  readonly role: string
  /** `DATABASE_URL` of this file's database for it. */
  readonly url: string
}

/** A role that may log in and is a member of `groups`, and has nothing else, until the scope closes. */
export const make = (...groups: ReadonlyArray<string>) =>
  Effect.gen(function* () {
    const sql = yield* SqlClient.SqlClient
    const role = `login_${randomUUID().replaceAll("-", "")}`
    const membership = groups.length === 0 ? "" : `IN ROLE ${groups.join(", ")}`
    yield* Effect.acquireRelease(sql.unsafe(`CREATE ROLE ${role} LOGIN PASSWORD 'secret' ${membership}`), () =>
      Effect.orDie(sql.unsafe(`DROP OWNED BY ${role}; DROP ROLE ${role}`))
    )
    const url = new URL((yield* Environment).DATABASE_URL ?? "")
    url.username = role
    url.password = "secret"
    const login: Login = { role, url: url.href }
    return login
  })

/** Runs statements in a session of its own, one after the other: each is a transaction. */
export const session = ({ url }: Pick<Login, "url">) =>
  Effect.map(
    Effect.acquireRelease(
      Effect.promise(async () => {
        const client = new Pg.Client(url)
        await client.connect()
        return client
      }),
      (client) => Effect.promise(() => client.end())
    ),
    (client) => (text: string) =>
      Effect.tryPromise({
        try: async () => {
          const result: Pg.QueryResult<Record<string, unknown>> = await client.query(text)
          return result.rows
        },
        catch: (error) => error
      })
  )
