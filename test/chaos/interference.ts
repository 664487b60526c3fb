/** What is done to relays where they get to named points, and to bytes that have been counted. */
import * as Effect from "effect/Effect"
import type { Interference, Passing } from "../support/proxy.ts"
import { endsBody, isQuestion, type Point, points, type Server, silence, tokenOf, track } from "./points.ts"
import type { Relay } from "./relays.ts"
import type { Action, Fault, Step } from "./schedule.ts"

type Look = (relay: number, server: Server, passing: Passing) => Interference | undefined

type Counting = Extract<Fault, { kind: "cut after bytes" }>

export interface Interferer {
  /** Waits until a relay has got there. */
  readonly step: (step: Step) => Effect.Effect<void>
  /** Waits until so many bytes have passed. */
  readonly countBytes: (fault: Counting) => Effect.Effect<void>
  /** How often relays asked ClickHouse which events it has. */
  readonly questions: () => number
  /** Batches of which relays were told that ClickHouse has them, by token. */
  readonly pretended: () => ReadonlySet<string>
}

const YES = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"

/** Looks at everything that passes between the relays and the databases. */
export const make = (relays: ReadonlyArray<Relay>): Effect.Effect<Interferer> =>
  Effect.gen(function* () {
    const armed = new Set<Look>()
    /** How many inserts came under each token. */
    const inserts = new Map<string, number>()
    /** Batches whose only insert was cut in the middle: ClickHouse has nothing of them. */
    const cut = new Set<string>()
    /** Batches that ClickHouse says to have and has not. It remembers their tokens, so it says so every time. */
    const pretended = new Set<string>()
    let questions = 0

    const look: Look = (relay, server, passing) => {
      if (server === "clickhouse") {
        if (isQuestion(passing)) questions++
        const token = tokenOf(passing)
        if (token !== undefined && passing.from === "client") {
          if (passing.sent === 0) inserts.set(token, (inserts.get(token) ?? 0) + 1)
          if (pretended.has(token)) return sayYes(passing)
        }
      }
      for (const looking of armed) {
        const interference = looking(relay, server, passing)
        if (interference !== undefined) return interference
      }
      return undefined
    }
    yield* Effect.forEach(relays, ({ proxies }, relay) =>
      Effect.all([
        proxies.postgres.watch((passing) => look(relay, "postgres", passing)),
        proxies.clickhouse.watch((passing) => look(relay, "clickhouse", passing))
      ])
    )

    /** Looks until it is done, or interrupted. */
    const arm = (make: (done: () => void) => Look) =>
      Effect.async<void>((resume) => {
        const looking = make(() => {
          armed.delete(looking)
          resume(Effect.void)
        })
        armed.add(looking)
        return Effect.sync(() => armed.delete(looking))
      })

    const at = (point: Point, action: Action) =>
      arm((done) => {
        const tracks = relays.map(() => track(point))
        return (relay, server, passing) => {
          if (server !== point.server || tracks[relay]?.(passing) !== true) return undefined
          done()
          const token = tokenOf(passing)
          const isFirst = token !== undefined && inserts.get(token) === 1
          if (isFirst && action.does === "cut" && passing.from === "client") cut.add(token)
          return act(relays[relay], action, passing, point.arriving(passing.bytes))
        }
      })

    const pretend = arm((done) => (_, server, passing) => {
      const token = tokenOf(passing)
      const begins = passing.from === "client" && passing.sent === 0
      if (server !== "clickhouse" || !begins || token === undefined) return undefined
      // An earlier insert that still runs somewhere would be stored after all.
      if (!cut.has(token) || inserts.get(token) !== 2) return undefined
      pretended.add(token)
      done()
      return sayYes(passing)
    })

    return {
      step: (step) => (step.kind === "pretend" ? pretend : at(points[step.point], step.action)),
      countBytes: (fault) => arm((done) => counting(fault, done)),
      questions: () => questions,
      pretended: () => pretended
    }
  })

/** Without a byte of it having reached the other side. */
const sayYes = ({ bytes }: Passing): Interference =>
  endsBody(bytes) ? { arriving: 0, next: { reply: YES } } : { arriving: 0, next: "continue" }

const act = (
  relay: Relay | undefined,
  action: Action,
  { bytes }: Passing,
  arriving: number
): Interference | undefined => {
  switch (action.does) {
    case "kill":
      // What was passed on whole may be worked on a little before the end.
      if (arriving === bytes.length && action.afterMillis > 0) {
        setTimeout(() => relay?.signal("SIGKILL"), action.afterMillis)
        return undefined
      }
      relay?.signal("SIGKILL")
      return silence(arriving)
    case "stop":
      relay?.signal("SIGSTOP")
      setTimeout(() => relay?.signal("SIGCONT"), action.millis)
      return undefined
    default:
      return { arriving, next: action.does }
  }
}

/** Of requests to ClickHouse those that insert, and their answers. */
const counting = ({ bytes, of, relay, server }: Counting, done: () => void): Look => {
  const counts = new Map<number, number>()
  return (from, to, passing) => {
    if (from !== relay || to !== server || passing.from !== (of === "request" ? "client" : "server")) return undefined
    if (server === "clickhouse" && tokenOf(passing) === undefined) return undefined
    const before = counts.get(passing.connection) ?? 0
    counts.set(passing.connection, before + passing.bytes.length)
    if (before + passing.bytes.length < bytes) return undefined
    done()
    return { arriving: bytes - before, next: "cut" }
  }
}
