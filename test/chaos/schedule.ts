/** What happens in a round: a function of the run's seed and the round's number, and of nothing else. */
import * as Arr from "effect/Array"
import * as Effect from "effect/Effect"
import * as Random from "effect/Random"
import { type PointName, pointNames, points, type Server } from "./points.ts"

/** What is done to a relay, or to its connection, at a point. */
export type Action =
  | { readonly does: "kill"; readonly afterMillis: number }
  /** For longer than its lease, or shorter. */
  | { readonly does: "stop"; readonly millis: number }
  | { readonly does: "cut" | "reset" | "silence" }

export type Step =
  | { readonly kind: "point"; readonly point: PointName; readonly action: Action }
  /** The next repeat of a batch whose insert was cut is answered with a yes, as ClickHouse would that lost its part. */
  | { readonly kind: "pretend" }

export type Relay = 0 | 1

export type Fault =
  | { readonly kind: "kill"; readonly relay: Relay }
  | { readonly kind: "stop"; readonly relay: Relay; readonly millis: number }
  | { readonly kind: "cut" | "reset"; readonly relay: Relay; readonly server: Server }
  | {
      readonly kind: "cut after bytes"
      readonly relay: Relay
      readonly server: Server
      readonly of: "request" | "response"
      readonly bytes: number
    }
  | { readonly kind: "freeze"; readonly relay: Relay; readonly server: Server; readonly millis: number }
  | {
      readonly kind: "slow"
      readonly relay: Relay
      readonly server: Server
      readonly millis: number
      readonly bytesPerSecond: number
    }
  | { readonly kind: "clock forward"; readonly relay: Relay }
  | { readonly kind: "disk full" | "too many parts"; readonly millis: number }
  /** Batches that wait take their first attempt to be long ago, so that no token is trusted. */
  | { readonly kind: "an hour passes" }
  | { readonly kind: "writers cut" }
  | { readonly kind: "crash"; readonly server: Server; readonly signal: "SIGKILL" | "SIGQUIT"; readonly millis: number }

export interface Transaction {
  readonly does: "commit" | "roll back" | "savepoints" | "walk out"
  readonly events: number
  /** Of the text in each event. */
  readonly bytes: number
  /** How many of the events ClickHouse refuses. */
  readonly refused: number
  /** How long it stays open after it has published. */
  readonly openMillis: number
  readonly pauseMillis: number
}

export interface Writer {
  readonly through: "library" | "SQL"
  readonly transactions: ReadonlyArray<Transaction>
}

export interface Round {
  readonly writers: ReadonlyArray<Writer>
  /** One after the other, as relays get there. */
  readonly steps: ReadonlyArray<Step>
  readonly faults: ReadonlyArray<{ readonly atMillis: number; readonly fault: Fault }>
}

/** How long a lease lasts in these runs. */
export const LEASE_MILLIS = 1_000

const between = (min: number, max: number) => Random.nextIntBetween(min, max + 1)
const chance = (share: number) => Effect.map(Random.next, (n) => n < share)
const oneOf = <A>(...options: Arr.NonEmptyArray<A>) => Random.choice(options)
const relay = oneOf<Relay>(0, 1)
const server = oneOf<Server>("postgres", "clickhouse")

/**
 * @param round from 0; points come in turn, so that each has had as many rounds as the others
 * @param names the points; all unless they are given
 */
export const schedule = (seed: string, round: number, names: ReadonlyArray<PointName> = pointNames): Round =>
  Effect.gen(function* () {
    const crash = yield* chance(0.2)
    const steps = yield* Effect.forEach(pointsOf(names, round, crash ? 2 : 3), (point) => stepsTo(point))
    const faults = yield* Effect.replicateEffect(timed(fault), crash ? 1 : yield* between(1, 3))
    return {
      writers: yield* Effect.replicateEffect(writer, yield* between(3, 6)),
      steps: steps.flat(),
      faults: [...faults, ...(crash ? [yield* timed(crashOf(yield* server))] : [])]
    }
  }).pipe(Effect.withRandom(Random.make(`${seed}/${round}`)), Effect.runSync)

const pointsOf = (names: ReadonlyArray<PointName>, round: number, count: number): ReadonlyArray<PointName> =>
  Arr.makeBy(count, (n) => names[(round * 3 + n * 11) % names.length]).filter((name) => name !== undefined)

const stepsTo = (point: PointName): Effect.Effect<ReadonlyArray<Step>> =>
  Effect.gen(function* () {
    const step: Step = { kind: "point", point, action: yield* action }
    const needs = "needs" in points[point] ? points[point].needs : undefined
    const cutAt = (at: PointName): Step => ({ kind: "point", point: at, action: { does: "cut" } })
    if (needs === "doubt") return [cutAt("insert: taken, answer lost"), step]
    if (needs === "loss") return [cutAt("insert: in the middle"), { kind: "pretend" }, step]
    return [step]
  })

const action: Effect.Effect<Action> = Effect.gen(function* () {
  if (yield* chance(0.75)) return { does: "kill", afterMillis: (yield* chance(0.5)) ? 0 : yield* between(1, 20) }
  if (yield* chance(0.5)) return { does: "stop", millis: yield* between(LEASE_MILLIS / 2, LEASE_MILLIS * 2) }
  return { does: yield* oneOf("cut" as const, "reset" as const, "silence" as const) }
})

const timed = (fault: Effect.Effect<Fault>) => Effect.all({ atMillis: between(0, 900), fault })

const fault: Effect.Effect<Fault> = Effect.flatMap(
  oneOf<Exclude<Fault["kind"], "crash">>(
    "kill",
    "stop",
    "cut",
    "reset",
    "cut after bytes",
    "cut after bytes",
    "freeze",
    "slow",
    "clock forward",
    "disk full",
    "too many parts",
    "an hour passes",
    "writers cut"
  ),
  (kind): Effect.Effect<Fault> => {
    switch (kind) {
      case "kill":
      case "clock forward":
        return Effect.all({ kind: Effect.succeed(kind), relay })
      case "stop":
        return Effect.all({ kind: Effect.succeed(kind), relay, millis: between(100, LEASE_MILLIS * 2) })
      case "cut":
      case "reset":
        return Effect.all({ kind: Effect.succeed(kind), relay, server })
      case "cut after bytes":
        return Effect.all({
          kind: Effect.succeed(kind),
          relay,
          server,
          of: oneOf("request" as const, "response" as const),
          // From within a header to within a batch, on a scale on which each is as likely.
          bytes: Effect.map(Random.nextRange(0, 17), (n) => Math.floor(2 ** n))
        })
      case "freeze":
        return Effect.all({ kind: Effect.succeed(kind), relay, server, millis: between(100, LEASE_MILLIS * 2) })
      case "slow":
        return Effect.all({
          kind: Effect.succeed(kind),
          relay,
          server,
          millis: between(500, 1_500),
          bytesPerSecond: between(20_000, 200_000)
        })
      case "disk full":
      case "too many parts":
        return Effect.all({ kind: Effect.succeed(kind), millis: between(100, 800) })
      case "an hour passes":
      case "writers cut":
        return Effect.succeed({ kind })
    }
  }
)

const crashOf = (server: Server): Effect.Effect<Fault> =>
  Effect.all({
    kind: Effect.succeed("crash" as const),
    server: Effect.succeed(server),
    signal:
      server === "clickhouse" ? Effect.succeed("SIGKILL" as const) : oneOf("SIGKILL" as const, "SIGQUIT" as const),
    millis: between(0, 500)
  })

const writer: Effect.Effect<Writer> = Effect.gen(function* () {
  return {
    through: yield* oneOf("library" as const, "SQL" as const),
    transactions: yield* Effect.replicateEffect(transaction, yield* between(4, 8))
  }
})

const transaction: Effect.Effect<Transaction> = Effect.gen(function* () {
  const huge = yield* chance(0.01)
  const long = yield* chance(0.1)
  const events = huge ? yield* between(3_000, 8_000) : yield* between(1, 60)
  return {
    does: (yield* chance(0.6))
      ? "commit"
      : yield* oneOf("roll back" as const, "savepoints" as const, "walk out" as const),
    events,
    bytes: huge ? 100 : yield* oneOf(10, 100, 1_000, 20_000),
    refused: (yield* chance(0.06)) ? yield* between(1, Math.min(events, 3)) : 0,
    openMillis: long ? yield* between(300, 1_500) : 0,
    pauseMillis: yield* between(10, 150)
  }
})
