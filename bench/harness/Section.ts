/** A part of the benchmark: what `--only` selects, and its results. */
import type { Effect, Scope } from "effect"
import type { Servers } from "../databases.ts"

/** A name that needs no quotes in a shell: `status-column`. */
export const keyOf = (name: string): string =>
  name
    .toLowerCase()
    .replace(/[^a-z0-9]+/g, "-")
    .replace(/-$/, "")

export interface Settings {
  readonly quick: boolean
  readonly runs: number
  readonly events: number
  /** The keys that `--only` named. None means everything. */
  readonly only: ReadonlyArray<string>
}

export interface Outcome {
  /** Each run, as `throughput.json` keeps it. */
  readonly runs: unknown
  /** Runs that failed. */
  readonly errors?: ReadonlyArray<string>
  /** For people: Markdown. */
  readonly tables: ReadonlyArray<{ readonly title: string; readonly table: string }>
  readonly charts: ReadonlyArray<{ readonly file: string; readonly svg: string }>
}

export interface Section {
  readonly name: string
  /** Names that `--only` takes for it, or for parts of it. */
  readonly parts: ReadonlyArray<string>
  readonly run: (servers: Servers, settings: Settings) => Effect.Effect<Outcome, Error, Scope.Scope>
}
