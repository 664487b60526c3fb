/**
 * Whether a relay does its work. Told from what its fibers last did and saw, so that asking costs nothing and whoever may
 * ask can make no server busy.
 */
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import type * as Config from "../Config.ts"
import type { Observation } from "../OutboxStore.ts"

/**
 * One thing that a relay needs, or does.
 *
 * @since 0.1.0
 * @category models
 */
export class Check extends Schema.Class<Check>("Check")({
  ok: Schema.Boolean,
  /** What is wrong. Names no host and quotes no server: whoever asks need not be known. */
  reason: Schema.optionalWith(Schema.String, { exact: true })
}) {}

/**
 * Whether a relay does its work, and what stands in its way.
 *
 * @since 0.1.0
 * @category models
 */
export class Health extends Schema.Class<Health>("Health")({
  /** Postgres answers and has this release's schema. */
  postgres: Check,
  /** ClickHouse answers and has a table that de-duplicates. */
  clickhouse: Check,
  /** The relay's fibers are alive, and what there is to deliver gets through. */
  relay: Check
}) {
  get ready(): boolean {
    return this.postgres.ok && this.clickhouse.ok && this.relay.ok
  }
}

/** What the relay's fibers tell of themselves. */
export interface Pulse {
  /** The outbox was looked at, and answered. */
  readonly looked: Effect.Effect<void>
  /** A worker has begun something, or goes on with it. */
  readonly alive: (worker: number) => Effect.Effect<void>
  /** A batch was dealt with. */
  readonly progressed: Effect.Effect<void>
  /** How the databases are: what is wrong with each, and what there is in the outbox. */
  readonly observed: (seen: Seen) => Effect.Effect<void>
  readonly health: Effect.Effect<Health>
}

export interface Seen {
  readonly postgres: Option.Option<string>
  readonly clickHouse: Option.Option<string>
  readonly outbox: Option.Option<Observation>
}

/** How long the sealer may be silent. It looks ten times a second, unless a query takes long. */
const SEALER_SILENCE = Duration.seconds(30)
/** How old what was last seen of the databases may be; see `watch.ts`. */
const SEEN_TTL = Duration.seconds(30)

const unseen: Seen = {
  postgres: Option.some("has not been asked yet"),
  clickHouse: Option.some("has not been asked yet"),
  outbox: Option.none()
}

export const makePulse = (config: Config.Relay & Config.Outbox): Effect.Effect<Pulse> =>
  Effect.sync(() => {
    let started = Option.none<number>()
    let lookedAt = 0
    let progressedAt = 0
    let seenAt = 0
    let seen = unseen
    const aliveAt = new Map<number, number>()

    const at = (mark: (now: number) => void) => Effect.map(Clock.currentTimeMillis, mark)

    /** A lease is renewed three times in its term; between two batches a worker waits as long as retries do. */
    const workerSilence = Duration.sum(Duration.times(config.lease, 2), config.retryCap)
    const stuckAfter = Duration.max(config.incidentAfter, workerSilence)

    const relayCheck = (now: number): Check => {
      const silent = (since: number, limit: Duration.Duration) => now - since > Duration.toMillis(limit)
      if (Option.isNone(started)) return failing("has not started")
      if (silent(lookedAt, SEALER_SILENCE)) return failing("has not looked for new events for too long")
      const stuck = [...aliveAt].find(([, since]) => silent(since, workerSilence))
      if (stuck !== undefined) return failing(`worker ${stuck[0]} has been silent for too long`)
      if (silent(progressedAt, stuckAfter)) return failing("nothing gets through: see open incidents, or the log")
      return OK
    }

    return {
      looked: at((now) => {
        lookedAt = now
      }),
      alive: (worker) =>
        at((now) => {
          if (Option.isNone(started)) {
            started = Option.some(now)
            lookedAt = now
            progressedAt = now
          }
          aliveAt.set(worker, now)
        }),
      progressed: at((now) => {
        progressedAt = now
      }),
      observed: (next) =>
        at((now) => {
          seen = next
          seenAt = now
          if (Option.exists(next.outbox, nothingWaits)) progressedAt = now
        }),
      health: Effect.map(Clock.currentTimeMillis, (now) => {
        const { clickHouse, postgres } = now - seenAt > Duration.toMillis(SEEN_TTL) ? unseen : seen
        return new Health({ postgres: toCheck(postgres), clickhouse: toCheck(clickHouse), relay: relayCheck(now) })
      })
    }
  })

/** Nothing but what some worker has, or what an operator wants to wait. */
const nothingWaits = ({ relayHeld, undeliveredBatches }: Observation): boolean =>
  relayHeld || Object.entries(undeliveredBatches).every(([state, batches]) => state === "leased" || batches === 0)

const OK = new Check({ ok: true })
const failing = (reason: string) => new Check({ ok: false, reason })
const toCheck = Option.match({ onNone: () => OK, onSome: failing })
