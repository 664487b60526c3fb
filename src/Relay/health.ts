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
import type { OutboxGauges } from "../OutboxStore.ts"

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
  /** The relay has begun to run, with so many workers. */
  readonly started: (workers: number) => Effect.Effect<void>
  /** The outbox was looked at for something to seal, and what there was to do is done. */
  readonly looked: Effect.Effect<void>
  /** A worker could use the outbox. */
  readonly alive: (worker: number) => Effect.Effect<void>
  /** A batch was dealt with, or a first attempt goes on. */
  readonly progressed: Effect.Effect<void>
  /** How the databases are: what is wrong with each, and what there is in the outbox. */
  readonly observed: (seen: Seen) => Effect.Effect<void>
  readonly health: Effect.Effect<Health>
}

export interface Seen {
  readonly postgres: Option.Option<string>
  readonly clickHouse: Option.Option<string>
  readonly outbox: Option.Option<OutboxGauges>
}

/** How long the sealer may be silent, in milliseconds. It looks four times a second and more, unless a query takes long. */
const SEALER_SILENCE = 30_000
/** How old what was last seen of the databases may be, in milliseconds; see `watch.ts`. */
const SEEN_TTL = 30_000

const unseen: Seen = {
  postgres: Option.some("has not been asked yet"),
  clickHouse: Option.some("has not been asked yet"),
  outbox: Option.none()
}

export const makePulse = (config: Config.Relay & Config.Outbox): Effect.Effect<Pulse> =>
  Effect.sync(() => {
    /** A lease is renewed three times in its term; between two attempts a worker waits as long as retries do. */
    const workerSilence = millis(config.lease) * 2 + millis(config.retryCap)
    const stuckAfter = Math.max(millis(config.incidentAfter), workerSilence)

    let isRunning = false
    let lookedAt = 0
    let progressedAt = 0
    let seenAt = 0
    let seen = unseen
    const aliveAt = new Map<number, number>()

    const relayCheck = (now: number): Check => {
      if (!isRunning) return failing("has not started")
      if (now - lookedAt > SEALER_SILENCE) return failing("could not look for new events for too long")
      const silent = [...aliveAt].find(([, at]) => now - at > workerSilence)
      if (silent !== undefined) return failing(`worker ${silent[0]} could not use the outbox for too long`)
      if (now - progressedAt > stuckAfter) return failing("nothing gets through: see open incidents, or the log")
      return OK
    }

    return {
      started: (workers) =>
        at((now) => {
          isRunning = true
          lookedAt = now
          progressedAt = now
          for (let worker = 0; worker < workers; worker++) aliveAt.set(worker, now)
        }),
      looked: at((now) => {
        lookedAt = now
      }),
      alive: (worker) =>
        at((now) => {
          aliveAt.set(worker, now)
        }),
      progressed: at((now) => {
        progressedAt = now
      }),
      observed: (next) =>
        at((now) => {
          seen = next
          seenAt = now
          if (Option.exists(next.outbox, (outbox) => !waits(outbox, stuckAfter))) progressedAt = now
        }),
      health: at((now) => {
        const { clickHouse, postgres } = now - seenAt > SEEN_TTL ? unseen : seen
        return new Health({ postgres: toCheck(postgres), clickhouse: toCheck(clickHouse), relay: relayCheck(now) })
      })
    }
  })

const millis = Duration.toMillis

/** By a clock that nobody sets. In milliseconds. */
const at = <A>(use: (now: number) => A): Effect.Effect<A> =>
  Effect.map(Clock.currentTimeNanos, (nanos) => use(Number(nanos / 1_000_000n)))

/**
 * Whether there is something that this relay could move. A batch that is blocked has its incident, and is tried again all
 * the same; one that is leased some worker has; and while relays are paused, everything is to wait.
 */
const waits = ({ oldestUnsealedMillis, relayPaused, undeliveredBatches }: OutboxGauges, stuckAfter: number): boolean =>
  !relayPaused &&
  ((undeliveredBatches.sealed ?? 0) > 0 || (undeliveredBatches.retrying ?? 0) > 0 || oldestUnsealedMillis > stuckAfter)

const OK = new Check({ ok: true })
const failing = (reason: string) => new Check({ ok: false, reason })
const toCheck = Option.match({ onNone: () => OK, onSome: failing })
