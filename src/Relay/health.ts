/**
 * Whether a relay does its work. Answered from what its fibers last did and saw: asking makes no query, so whoever may ask
 * cannot keep a server busy.
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import type * as Config from "../Config.ts"
import { monotonicMillis } from "../internal/clock.ts"
import type { OutboxGauges } from "../OutboxStore.ts"

/**
 * One thing that a relay needs, or does.
 *
 * @since 0.1.0
 * @category models
 */
export class Check extends Schema.Class<Check>("Check")({
  ok: Schema.Boolean,
  /** What is wrong. Names no host and quotes no server, because `/readyz` asks for no token. */
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

/** What the relay's fibers report of themselves. */
export interface Pulse {
  /** The relay has begun to run, with so many workers. */
  readonly started: (workers: number) => Effect.Effect<void>
  /** The sealer could ask the outbox, and has sealed what was due. */
  readonly looked: Effect.Effect<void>
  /** A worker could use the outbox. */
  readonly alive: (worker: number) => Effect.Effect<void>
  /** A batch was delivered or isolated, or a first attempt goes on. */
  readonly progressed: Effect.Effect<void>
  readonly probed: (seen: Seen) => Effect.Effect<void>
  readonly health: Effect.Effect<Health>
}

/** What a probe saw: what is wrong with each database, and what is in the outbox if Postgres answered. */
export interface Seen {
  readonly postgres: Option.Option<string>
  readonly clickHouse: Option.Option<string>
  readonly outbox: Option.Option<OutboxGauges>
}

/** Milliseconds. The sealer reports at least four times a second, unless a query takes long. */
const SEALER_SILENT_AFTER = 30_000
/** Milliseconds. There is a probe every 5 seconds, unless a database is slow. */
const PROBE_OUTDATED_AFTER = 30_000

const unseen: Seen = {
  postgres: Option.some("has not been asked yet"),
  clickHouse: Option.some("has not been asked yet"),
  outbox: Option.none()
}

export interface Options extends Pick<Config.Relay, "incidentAfter" | "retryCap">, Pick<Config.Outbox, "lease"> {}

export const makePulse = ({ incidentAfter, lease, retryCap }: Options): Effect.Effect<Pulse> =>
  Effect.sync(() => {
    // A lease is renewed three times in its term. Between two attempts a worker waits for as long as retries do.
    const workerSilentAfter = millis(lease) * 2 + millis(retryCap)
    const stuckAfter = Math.max(millis(incidentAfter), workerSilentAfter)

    let isRunning = false
    let lookedAt = 0
    let progressedAt = 0
    let seenAt = 0
    let seen = unseen
    const aliveAt = new Map<number, number>()

    const relayCheck = (now: number): Check => {
      if (!isRunning) return failing("has not started")
      if (now - lookedAt > SEALER_SILENT_AFTER) return failing("could not look for new events for too long")
      const silent = [...aliveAt].find(([, at]) => now - at > workerSilentAfter)
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
      probed: (next) =>
        at((now) => {
          seen = next
          seenAt = now
          if (Option.exists(next.outbox, (outbox) => !isWaiting(outbox, stuckAfter))) progressedAt = now
        }),
      health: at((now) => {
        const { clickHouse, postgres } = now - seenAt > PROBE_OUTDATED_AFTER ? unseen : seen
        return new Health({ postgres: toCheck(postgres), clickhouse: toCheck(clickHouse), relay: relayCheck(now) })
      })
    }
  })

const millis = Duration.toMillis

const at = <A>(use: (now: number) => A): Effect.Effect<A> => Effect.map(monotonicMillis, use)

/**
 * Whether something waits that this relay could deliver. Not a batch that is blocked: it has an incident of its own. Nor
 * one that is leased: some worker has it. And while relays are paused, everything is meant to wait.
 */
const isWaiting = (
  { oldestUnsealedMillis, relayPaused, undeliveredBatches }: OutboxGauges,
  stuckAfter: number
): boolean =>
  !relayPaused &&
  ((undeliveredBatches.sealed ?? 0) > 0 || (undeliveredBatches.retrying ?? 0) > 0 || oldestUnsealedMillis > stuckAfter)

const OK = new Check({ ok: true })
const failing = (reason: string) => new Check({ ok: false, reason })
const toCheck = Option.match({ onNone: () => OK, onSome: failing })
