/**
 * What all test files share: databases, started once and migrated once into a template that each file clones, and the
 * programs that tests start.
 */
import * as SqlClient from "@effect/sql/SqlClient"
import * as PgClient from "@effect/sql-pg/PgClient"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Redacted from "effect/Redacted"
import * as Scope from "effect/Scope"
import type { TestProject } from "vitest/node"
import * as Databases from "../../src/embedded/Databases.ts"
import * as Migrations from "../../src/Migrations.ts"
import * as Programs from "./programs.ts"

declare module "vitest" {
  export interface ProvidedContext {
    readonly postgresUrl: string
    readonly clickhouseUrl: string
    readonly template: string
    readonly programs: Programs.Programs
  }
}

const inDatabase = (url: string, database: string): string => {
  const changed = new URL(url)
  changed.pathname = `/${database}`
  return changed.href
}

const migrateTemplate = (postgresUrl: string, template: string) =>
  Effect.gen(function* () {
    const sql = yield* SqlClient.SqlClient
    yield* sql.unsafe(`CREATE DATABASE ${template}`)
    yield* Migrations.postgres.pipe(
      Effect.provide(PgClient.layer({ url: Redacted.make(inDatabase(postgresUrl, template)) }))
    )
  }).pipe(Effect.provide(PgClient.layer({ url: Redacted.make(postgresUrl) })))

export default async (project: TestProject): Promise<() => Promise<void>> => {
  const scope = Effect.runSync(Scope.make())
  const [databases, programs] = await Effect.runPromise(
    Scope.extend(Effect.all([Databases.make, Programs.make], { concurrency: "unbounded" }), scope)
  )
  const postgresUrl = Redacted.value(databases.postgresUrl)
  // Its own name, because databases from the environment outlive the run.
  const template = `outbox_template_${process.pid}_${Date.now()}`
  await Effect.runPromise(migrateTemplate(postgresUrl, template))
  project.provide("postgresUrl", postgresUrl)
  project.provide("clickhouseUrl", Redacted.value(databases.clickhouseUrl))
  project.provide("template", template)
  project.provide("programs", programs)
  return () => Effect.runPromise(Scope.close(scope, Exit.void))
}
