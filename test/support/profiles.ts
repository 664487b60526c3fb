/** A ClickHouse server whose users differ by their settings profiles, as `users.xml` has them. */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import * as Effect from "effect/Effect"
import * as EmbeddedClickHouse from "../../src/embedded/EmbeddedClickHouse.ts"

/** What a user's profile sets, by its name. */
export type Profiles = Readonly<Record<string, Readonly<Record<string, string | number>>>>

/** Which rows of `default.event_log` a user may see, in SQL, by the user's name. */
export type Filters = Readonly<Record<string, string>>

const escapeXml = (text: string): string => text.replaceAll("&", "&amp;").replaceAll("<", "&lt;")

/** A user for each profile, of the same name and without a password. User `default` has no settings of its own. */
const usersXml = (profiles: Profiles, filters: Filters): string => {
  const all = Object.entries({ default: {}, ...profiles })
  const settings = (profile: Profiles[string]) =>
    Object.entries(profile).map(([name, value]) => `<${name}>${escapeXml(String(value))}</${name}>`)
  const databases = (user: string) =>
    filters[user] === undefined
      ? ""
      : `<databases><default><event_log><filter>${escapeXml(filters[user])}</filter></event_log></default></databases>`
  return `
    <clickhouse>
      <profiles>${all.map(([name, profile]) => `<${name}>${settings(profile).join("")}</${name}>`).join("\n")}</profiles>
      <quotas><default/></quotas>
      <users>${all
        .map(
          ([name]) =>
            `<${name}><password/><networks><ip>::/0</ip></networks><profile>${name}</profile><quota>default</quota>${databases(name)}</${name}>`
        )
        .join("\n")}</users>
    </clickhouse>`
}

/** Runs until the scope closes. `settings` are those of the server. */
export const make = (profiles: Profiles, settings: EmbeddedClickHouse.Settings = {}, filters: Filters = {}) =>
  Effect.gen(function* () {
    const folder = yield* Effect.acquireRelease(
      Effect.sync(() => mkdtempSync(join(tmpdir(), "clickhouse-outbox-profiles-"))),
      (path) => Effect.sync(() => rmSync(path, { recursive: true }))
    )
    const file = join(folder, "users.xml")
    writeFileSync(file, usersXml(profiles, filters))
    return yield* EmbeddedClickHouse.make({ settings: { ...settings, users_config: file } })
  })
