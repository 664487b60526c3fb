/** Stand-ins for both sides of the relay, of which a test writes only what it expects to be asked. */
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import * as Stream from "effect/Stream"
import { Batch, Lease } from "../../src/Batch.ts"
import { ClickHouseSink } from "../../src/ClickHouseSink.ts"
import { OutboxGauges, OutboxStore } from "../../src/OutboxStore.ts"

const unexpected = (what: string) => Effect.dieMessage(`Unexpected: ${what}`)

/** Nothing is there, and nothing is wrong. */
export const gauges = new OutboxGauges({
  backlogEvents: 0,
  oldestUndeliveredMillis: 0,
  oldestUnsealedMillis: 0,
  undeliveredBatches: {},
  openFailures: 0,
  openFailureEvents: 0,
  openIncidents: {},
  relayPaused: false,
  slotBytes: {}
})

export const store = (expected: Partial<typeof OutboxStore.Service>) =>
  Layer.succeed(
    OutboxStore,
    OutboxStore.of({
      // Relays watch the databases, whatever they are tested for.
      position: Effect.succeed({ events: 0, batches: 0, transactions: "1" }),
      hasPending: Effect.succeed(false),
      relayPause: Effect.succeedNone,
      seal: () => unexpected("seal"),
      lease: () => unexpected("lease"),
      renew: () => unexpected("renew"),
      sinceFirstAttempt: () => unexpected("sinceFirstAttempt"),
      read: () => Stream.dieMessage("Unexpected: read"),
      readRepair: () => Stream.dieMessage("Unexpected: readRepair"),
      eventIds: () => unexpected("eventIds"),
      retainedEventIds: () => unexpected("retainedEventIds"),
      planRepair: () => unexpected("planRepair"),
      acknowledge: () => unexpected("acknowledge"),
      release: () => unexpected("release"),
      refusals: () => unexpected("refusals"),
      kinds: () => unexpected("kinds"),
      splitByType: () => unexpected("splitByType"),
      split: () => unexpected("split"),
      fail: () => unexpected("fail"),
      republish: () => unexpected("republish"),
      abandon: () => unexpected("abandon"),
      maintain: () => unexpected("maintain"),
      gauges: Effect.succeed(gauges),
      connections: Effect.succeed({ used: 0, idle: 0, waiting: 0 }),
      status: unexpected("status"),
      ...expected
    })
  )

export const sink = (expected: Partial<typeof ClickHouseSink.Service>) =>
  Layer.succeed(
    ClickHouseSink,
    ClickHouseSink.of({
      insert: () => unexpected("insert"),
      missing: () => unexpected("missing"),
      countRows: () => unexpected("countRows"),
      readRows: () => unexpected("readRows"),
      check: Effect.void,
      ttl: unexpected("ttl"),
      deduplicationWindow: unexpected("deduplicationWindow"),
      isInserting: () => unexpected("isInserting"),
      ...expected
    })
  )

/** A batch as the manifest would have it. */
export const batch = Schema.decodeSync(Batch)({
  id: 7,
  token: "00000000-0000-4000-8000-000000000007",
  fromSnapshot: "100:100:",
  toSnapshot: "200:200:",
  firstTxId: "100",
  firstId: "1",
  lastTxId: "199",
  lastId: "10",
  eventCount: 10,
  byteCount: 1000,
  slots: [0],
  eventTypes: ["tested"],
  byType: false,
  firstEventDateTime: "2026-01-01 00:00:00.000000",
  lastEventDateTime: "2026-01-01 00:00:01.000000",
  firstPublishedAt: 0,
  traceparents: [],
  sealedAt: 0
})

export const rows = Stream.empty

export const lease = new Lease({
  batch,
  leaseId: "00000000-0000-4000-8000-000000000001",
  attempt: 1,
  inDoubt: false,
  askFirst: false,
  wasRequeued: false,
  expired: false,
  repair: Option.none()
})
