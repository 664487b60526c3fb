/** A part of the benchmark: what `--only` selects, and what it comes to. */
import type { Effect, Scope } from "effect"
import type { Servers } from "../databases.ts"

/** A name as a shell takes it without quotes: `status-column`. */
export const keyOf = (name: string): string =>
  name
    .toLowerCase()
    .replace(/[^a-z0-9]+/g, "-")
    .replace(/-$/, "")

export interface Settings {
  readonly quick: boolean
  readonly runs: number
  readonly events: number
  /** Keys of names. None for everything. */
  readonly only: ReadonlyArray<string>
}

export interface Outcome {
  /** Each run, as `throughput.json` keeps it. */
  readonly runs: unknown
  /** Runs that were none. */
  readonly errors?: ReadonlyArray<string>
  /** For people: Markdown. */
  readonly tables: ReadonlyArray<{ readonly title: string; readonly table: string }>
  readonly charts: ReadonlyArray<{ readonly file: string; readonly svg: string }>
}

export interface Section {
  readonly name: string
  /** What `--only` may name to run it, or parts of it. */
  readonly parts: ReadonlyArray<string>
  readonly run: (servers: Servers, settings: Settings) => Effect.Effect<Outcome, Error, Scope.Scope>
}
