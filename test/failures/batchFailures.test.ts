/** What an operator can do about refused events, whichever door they come in through. */
import * as SqlClient from "@effect/sql/SqlClient"
import { expect, layer } from "@effect/vitest"
import * as Arr from "effect/Array"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Schema from "effect/Schema"
import * as BatchFailuresModule from "../../src/BatchFailures.ts"
import { Actor, BatchFailures, CorrectionInvalid, FailureClosed, FailureId, toJson } from "../../src/BatchFailures.ts"
import * as Event from "../../src/Event.ts"
import * as EventPublisher from "../../src/EventPublisher.ts"
import * as Operations from "../../src/Operations.ts"
import { OutboxStore } from "../../src/OutboxStore.ts"
import { transaction } from "../../src/Transaction.ts"
import * as Environment from "../support/environment.ts"
import { counts, eventLog } from "../support/eventLog.ts"
import * as Failures from "../support/failures.ts"
import * as Relay from "../support/relay.ts"

const ADA = Actor.make("ada@laptop")

const event = (eventContext: Event.JsonObject, eventType = "failure_tested") => Event.make({ eventType, eventContext })

const services = Layer.mergeAll(BatchFailuresModule.layer, Operations.layer)

const live = Layer.provideMerge(services, Environment.layer())

/** On databases of its own. */
const fresh = <A, E, R>(test: Effect.Effect<A, E, R>) =>
  Effect.provide(Effect.scoped(test), Layer.provideMerge(services, Environment.layer()))

layer(live, { excludeTestServices: true })("A failure", (it) => {
  it.effect("A failure shows its events whole, every digit of them", () =>
    Effect.gen(function* () {
      const failures = yield* BatchFailures
      const sql = yield* SqlClient.SqlClient
      const context = '{"n": 123456789012345678901234567890, "x": 1e400}'
      yield* Failures.make([event({})])
      const { failureId, eventId } = yield* Failures.make([event({})])
      yield* sql`
        UPDATE outbox.batch_failure_event SET event_context = ${context}::jsonb, metadata_version = 9223372036854775807
        WHERE failure_id = ${failureId}
      `
      expect(yield* failures.get(failureId)).toMatchObject({ state: "open", eventCount: 1, code: 117 })
      const [failed] = yield* failures.events(failureId)
      const json = toJson(yield* Effect.fromNullable(failed))
      expect(json).toContain('"n": 123456789012345678901234567890')
      expect(json).toContain(`"x": 1${"0".repeat(400)}`)
      expect(json).toContain('"metadata_version":9223372036854775807')
      expect(JSON.parse(json)).toMatchObject({ event_id: eventId, event_type: "failure_tested", environment: "test" })
    })
  )

  it.effect("A failure is found by each of its properties, newest first and page by page", () =>
    Effect.gen(function* () {
      const failures = yield* BatchFailures
      const made = yield* Effect.forEach(["a", "b", "a", "c"], (type) => Failures.make([event({}, type)]))
      const ids = made.map(({ failureId }) => failureId).reverse()
      yield* failures.discard(Arr.unsafeGet(ids, 0), { note: "not needed", actor: ADA })
      const list = (filter: BatchFailuresModule.Filter, page?: BatchFailuresModule.Page<FailureId>) =>
        Effect.map(
          failures.list(filter, page),
          Arr.map(({ id }) => id)
        )
      expect(yield* list({})).toEqual(ids)
      expect(yield* list({}, { limit: 2 })).toEqual(ids.slice(0, 2))
      expect(yield* list({}, { limit: 2, after: ids[1] })).toEqual(ids.slice(2))
      expect(yield* list({ state: "open" })).toEqual(ids.slice(1))
      expect(yield* list({ state: "discarded" })).toEqual(ids.slice(0, 1))
      expect(yield* list({ eventType: "a" })).toEqual([ids[1], ids[3]])
      expect(yield* list({ class: "data", code: 117 })).toEqual(ids)
      expect(yield* list({ code: 26 })).toEqual([])
      const now = new Date()
      expect(yield* list({ until: now })).toEqual(ids)
      expect(yield* list({ since: now })).toEqual([])
    }).pipe(fresh)
  )

  it.effect("A failure pages through the events of a large one in the order in which they were published", () =>
    Effect.gen(function* () {
      const failures = yield* BatchFailures
      const { eventIds, failureId } = yield* Failures.make(Arr.makeBy(120, (n) => event({ n })))
      const first = yield* failures.events(failureId, { limit: 100 })
      const rest = yield* failures.events(failureId, { limit: 100, after: first.at(-1)?.id })
      expect([...first, ...rest].map(({ eventId }) => eventId)).toEqual(eventIds)
    })
  )

  {
    it.effect("A failure is corrected field by field, digits kept, with the trail of what was before", () =>
      Effect.gen(function* () {
        const failures = yield* BatchFailures
        const { eventId, failureId } = yield* Failures.make([event({ n: 1 })])
        const correction =
          '{"event_context": {"n": 9007199254740993}, "event_type": "corrected", "metadata_version": 9223372036854775807, "event_date_time": "2026-01-31T12:00:00.123456+01:00"}'
        const corrected = yield* failures.correct(failureId, { eventId, correction, actor: ADA })
        expect(corrected).toMatchObject({
          eventContext: '{"n": 9007199254740993}',
          eventType: "corrected",
          metadataVersion: "9223372036854775807",
          eventDateTime: "2026-01-31T11:00:00.123456Z"
        })
        const sql = yield* SqlClient.SqlClient
        expect(
          yield* sql`SELECT context_bytes FROM outbox.batch_failure_event WHERE failure_id = ${failureId}`
        ).toEqual([{ context_bytes: '{"n": 9007199254740993}'.length }])
        expect(yield* failures.get(failureId)).toMatchObject({ state: "open", correctedCount: 1, replayedCount: 0 })
        const [entry] = yield* failures.audit(failureId)
        expect(entry).toMatchObject({ actor: ADA, action: "correct", eventId })
        expect(JSON.parse(entry?.before ?? "")).toMatchObject({ event_context: { n: 1 }, metadata_version: 1 })
        expect(entry?.after).toContain('"n": 9007199254740993')
      })
    )

    it.effect(
      "A failure is corrected until it is again what was refused: a correction that was taken back is none",
      () =>
        Effect.gen(function* () {
          const failures = yield* BatchFailures
          const { eventId, failureId } = yield* Failures.make([event({ n: 1 })])
          const correct = (correction: string) => failures.correct(failureId, { eventId, correction, actor: ADA })
          yield* correct('{"event_context": {"n": 2}}')
          yield* correct('{"event_context": {"n": 3}, "event_type": "corrected"}')
          expect((yield* correct('{"event_context": {"n": 1}}')).correctedAt).toEqual(expect.any(Date))
          expect((yield* correct('{"event_type": "failure_tested"}')).correctedAt).toBeNull()
          expect(yield* failures.get(failureId)).toMatchObject({ state: "open", correctedCount: 0 })
          const [last, ...others] = yield* failures.audit(failureId)
          expect(JSON.parse(last?.after ?? "")).toEqual({ event_type: "failure_tested", corrected_at: null })
          expect(others.map(({ after }) => Object.keys(JSON.parse(after)))).toEqual([
            ["event_context"],
            ["event_type", "event_context"],
            ["event_context"]
          ])
        })
    )

    it.effect("A failure is corrected and counted until it is replayed: what is left may be as it was", () =>
      Effect.gen(function* () {
        const failures = yield* BatchFailures
        const { eventIds, failureId } = yield* Failures.make([event({ n: 1 }), event({ n: 2 })])
        const [first] = eventIds
        if (first === undefined) return expect.unreachable()
        yield* failures.correct(failureId, { eventId: first, correction: '{"event_context": {}}', actor: ADA })
        expect(yield* failures.get(failureId)).toMatchObject({ correctedCount: 1, replayedCount: 0 })
        yield* failures.replayEvent(failureId, { eventId: first, actor: ADA })
        expect(yield* failures.get(failureId)).toMatchObject({ state: "open", correctedCount: 0, replayedCount: 1 })
      })
    )

    const refused = {
      "no JSON": ["{", "the correction is not JSON"],
      "no object": ["[]", "a correction is a JSON object with one or more of event_type"],
      "nothing to correct": ["{}", "a correction is a JSON object with one or more of event_type"],
      "what cannot be corrected": ['{"event_id": "x"}', "event_id: cannot be corrected"],
      null: ['{"event_type": null}', "event_type: must not be null"],
      "a context that is no object": ['{"event_context": [1]}', "event_context: must be a JSON object"],
      "a type that is too long": [`{"event_type": "${"x".repeat(256)}"}`, "event_type: must have 1 to 255 characters"],
      "a time that is none": ['{"event_date_time": "yesterday"}', "event_date_time: must be an RFC 3339 time"],
      "a time that ClickHouse cannot hold": ['{"event_date_time": "1800-01-01T00:00:00Z"}', "from 1900-01-01"],
      "a negative version": ['{"metadata_version": -1}', "metadata_version: must be a whole number"],
      "what no double can hold": ['{"event_context": {"x": 1e400}}', "event_context.x: Infinity is not a JSON number"],
      "what Postgres cannot hold": ['{"event_context": {"x": 1e-20000}}', "value overflows numeric format"],
      "what only Postgres finds too heavy": [
        `{"event_context": {"x": [${"1,".repeat(400_000)}1]}}`,
        "event_context: must not exceed"
      ]
    }
    for (const [what, [correction = "", says = ""]] of Object.entries(refused)) {
      it.effect(`A failure is corrected but not to ${what}: it says why and stays as it is`, () =>
        Effect.gen(function* () {
          const failures = yield* BatchFailures
          const { eventId, failureId } = yield* Failures.make([event({ n: 1 })])
          const before = yield* failures.events(failureId)
          const error = yield* Effect.flip(failures.correct(failureId, { eventId, correction, actor: ADA }))
          expect(error).toBeInstanceOf(CorrectionInvalid)
          expect(error.message).toContain(says)
          expect(yield* failures.events(failureId)).toEqual(before)
          expect(yield* failures.audit(failureId)).toEqual([])
        })
      )
    }

    it.effect("A failure is corrected by the event's own Schema, where the program registered it", () =>
      Effect.gen(function* () {
        const failures = yield* BatchFailures
        const UserCreated = Event.define({
          eventType: "user_created",
          eventContext: Schema.Struct({ userId: Schema.Number })
        })
        const { eventId, failureId } = yield* Failures.make([UserCreated({ userId: 1 })])
        const correct = (correction: string) =>
          failures
            .correct(failureId, { eventId, correction, actor: ADA })
            .pipe(Effect.provide(Layer.succeed(Event.Definitions, [UserCreated])))
        const error = yield* Effect.flip(correct('{"event_context": {"userId": "one"}}'))
        expect(error.message).toContain('event_context.userId: Expected number, actual "one"')
        expect(yield* correct('{"event_context": {"userId": 2}}')).toMatchObject({ eventContext: '{"userId": 2}' })
        // Another version has another shape, which nobody registered.
        yield* correct('{"event_context": {"userId": "two"}, "metadata_version": 2}')
      })
    )
  }

  it.effect(
    "A failure is replayed under the same id, as it was corrected, and arrives once however often the button is pressed",
    () =>
      Effect.gen(function* () {
        const failures = yield* BatchFailures
        const { eventId, failureId } = yield* Failures.make([event({ n: 1 })])
        yield* failures.correct(failureId, { eventId, correction: '{"event_context": {"n": 2}}', actor: ADA })
        const presses = yield* Effect.all(
          Arr.makeBy(5, () => Effect.either(failures.replay(failureId, { actor: ADA }))),
          {
            concurrency: "unbounded"
          }
        )
        expect(Arr.getRights(presses)).toEqual([{ failures: [failureId], events: 1 }])
        expect(Arr.getLefts(presses)).toEqual(Arr.makeBy(4, () => new FailureClosed({ failureId, state: "replayed" })))
        yield* Relay.drain
        expect(yield* eventLog).toMatchObject([{ eventId, eventContext: { n: 2 }, eventType: "failure_tested" }])
        expect((yield* failures.audit(failureId)).map(({ action }) => action)).toEqual(["replay", "correct"])
      }).pipe(fresh)
  )

  it.effect("A failure is replayed event by event, also by several at once, and is closed by the last", () =>
    Effect.gen(function* () {
      const failures = yield* BatchFailures
      const { eventId, eventIds, failureId } = yield* Failures.make(Arr.makeBy(20, (n) => event({ n })))
      const state = Effect.map(failures.get(failureId), ({ replayedCount, state }) => ({ replayedCount, state }))
      const [first = eventId, ...rest] = eventIds
      yield* failures.replayEvent(failureId, { eventId: first, actor: ADA })
      expect(yield* state).toEqual({ replayedCount: 1, state: "open" })
      expect((yield* Effect.flip(failures.replayEvent(failureId, { eventId: first, actor: ADA })))._tag).toBe(
        "EventReplayed"
      )
      yield* Effect.forEach(rest, (id) => failures.replayEvent(failureId, { eventId: id, actor: ADA }), {
        concurrency: 5
      })
      expect(yield* state).toEqual({ replayedCount: 20, state: "replayed" })
      yield* Relay.drain
      expect(yield* counts).toEqual({ rows: 20, events: 20 })
    }).pipe(fresh)
  )

  it.effect("A failure is replayed together with all that match a filter, and with no other", () =>
    Effect.gen(function* () {
      const failures = yield* BatchFailures
      const first = yield* Failures.make([event({ n: 1 }, "a")])
      const second = yield* Failures.make([event({ n: 2 }, "a"), event({ n: 3 }, "b")])
      const { failureId } = yield* Failures.make([event({ n: 4 }, "b")])
      const discarded = yield* Failures.make([event({ n: 5 }, "a")])
      yield* failures.discard(discarded.failureId, { note: "not needed", actor: ADA })
      expect(yield* failures.replayAll({ eventType: "a" }, { actor: ADA })).toEqual({
        failures: [first.failureId, second.failureId],
        events: 3
      })
      expect((yield* failures.list({ state: "open" })).map(({ id }) => id)).toEqual([failureId])
      yield* Relay.drain
      expect((yield* eventLog).map((row) => row.eventContext)).toEqual([{ n: 1 }, { n: 2 }, { n: 3 }])
    }).pipe(fresh)
  )

  it.effect(
    "A failure is replayed comes back if it is still refused, as a failure that names it and that it names",
    () =>
      Effect.gen(function* () {
        const failures = yield* BatchFailures
        const id = yield* EventPublisher.publish(event({ n: 1e30 }))
        yield* Relay.drain
        const [first] = yield* failures.list({})
        yield* failures.replay(FailureId.make(first?.id ?? 0), { actor: ADA })
        yield* Relay.drain
        const [again, replayed] = yield* failures.list({})
        expect(again).toMatchObject({ state: "open", previousFailureId: first?.id, nextFailureId: null })
        expect(replayed).toMatchObject({ id: first?.id, state: "replayed", nextFailureId: again?.id })
        expect(yield* failures.events(FailureId.make(again?.id ?? 0))).toMatchObject([{ eventId: id }])
        expect(yield* counts).toEqual({ rows: 0, events: 0 })
      }).pipe(fresh)
  )

  it.effect(
    "A failure is replayed with a question to ClickHouse before, while relays are finding out that Postgres was restored",
    () =>
      Effect.gen(function* () {
        const failures = yield* BatchFailures
        const sql = yield* SqlClient.SqlClient
        const store = yield* OutboxStore
        const { failureId } = yield* Failures.make([event({ n: 1 })])
        yield* sql`UPDATE outbox.sealer SET timeline = 0`
        const isReplayed = yield* Deferred.make<void>()
        const sealing = yield* Effect.fork(Effect.zipRight(Deferred.await(isReplayed), store.seal()))
        yield* failures
          .replay(failureId, { actor: ADA })
          .pipe(
            Effect.zipRight(Deferred.succeed(isReplayed, undefined)),
            Effect.zipRight(Effect.sleep("300 millis")),
            transaction
          )
        yield* Fiber.join(sealing)
        yield* store.seal({ flush: true })
        expect(yield* sql`SELECT ask_first FROM outbox.batch ORDER BY id DESC LIMIT 1`).toEqual([{ ask_first: true }])
      }).pipe(fresh)
  )

  it.effect("A failure is replayed not at all if the transaction around it fails", () =>
    Effect.gen(function* () {
      const failures = yield* BatchFailures
      const sql = yield* SqlClient.SqlClient
      const { failureId } = yield* Failures.make([event({ n: 1 })])
      yield* sql.unsafe(`
          CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'no'; END $$;
          CREATE TRIGGER refuse BEFORE INSERT ON outbox.audit FOR EACH STATEMENT EXECUTE FUNCTION refuse()
        `)
      expect((yield* Effect.flip(failures.replay(failureId, { actor: ADA })))._tag).toBe("SqlError")
      expect(yield* failures.get(failureId)).toMatchObject({ state: "open", replayedCount: 0 })
      yield* Relay.drain
      expect(yield* counts).toEqual({ rows: 0, events: 0 })
    }).pipe(fresh)
  )

  it.effect("A failure is discarded or resolved with a note that is kept, and by one of two who do it at once", () =>
    Effect.gen(function* () {
      const failures = yield* BatchFailures
      const { failureId } = yield* Failures.make([event({})])
      const [done, late] = yield* Effect.all(
        [
          Effect.either(failures.discard(failureId, { note: "a test", actor: ADA })),
          Effect.either(failures.resolve(failureId, { note: "by hand", actor: ADA }))
        ],
        { concurrency: 2 }
      )
      expect([done._tag, late._tag].sort()).toEqual(["Left", "Right"])
      const closed = yield* failures.get(failureId)
      expect([
        { state: "discarded", note: "a test" },
        { state: "resolved", note: "by hand" }
      ]).toContainEqual({ state: closed.state, note: closed.note })
      expect(closed.closedAt).not.toBeNull()
      expect((yield* Effect.flip(failures.replay(failureId, { actor: ADA })))._tag).toBe("FailureClosed")
      expect(yield* failures.audit(failureId)).toHaveLength(1)
    })
  )

  it("A failure cannot be changed with two of the texts swapped: that does not compile", () => {
    const eventId = Event.EventId.make("01890a5d-ac96-774b-bcce-b302099a8057")
    const swapped = (failures: typeof BatchFailures.Service, operations: typeof Operations.Operations.Service) => [
      // @ts-expect-error who asks is no event
      failures.correct(FailureId.make(1), { eventId: ADA, correction: "{}", actor: ADA }),
      // @ts-expect-error an event asks for nothing
      failures.replayEvent(FailureId.make(1), { eventId, actor: eventId }),
      // @ts-expect-error a text that nobody has checked is no event
      failures.event(FailureId.make(1), "nonsense"),
      // @ts-expect-error nor is it somebody
      failures.discard(FailureId.make(1), { note: ADA, actor: "a note" }),
      // @ts-expect-error the same for a pause
      operations.pause({ reason: ADA, actor: "a reason" })
    ]
    expect(swapped).toBeTypeOf("function")
  })

  it.effect("A failure that is not there is said to be not there", () =>
    Effect.gen(function* () {
      const failures = yield* BatchFailures
      const { failureId } = yield* Failures.make([event({})])
      const absent = FailureId.make(4_711)
      expect((yield* Effect.flip(failures.get(absent))).message).toContain("There is no failure 4711")
      expect((yield* Effect.flip(failures.replay(absent, { actor: ADA })))._tag).toBe("FailureNotFound")
      const stranger = Event.EventId.make("01890a5d-ac96-774b-bcce-b302099a8057")
      expect((yield* Effect.flip(failures.replayEvent(failureId, { eventId: stranger, actor: ADA }))).message).toBe(
        `Failure ${failureId} has no event ${stranger}`
      )
      expect(
        (yield* Effect.flip(
          failures.correct(failureId, { eventId: stranger, correction: '{"event_type":"x"}', actor: ADA })
        ))._tag
      ).toBe("FailedEventNotFound")
    })
  )
})

layer(live, { excludeTestServices: true })("Replayed events", (it) => {
  it.effect("Replayed events are counted from failure to failure until they have arrived, and each once", () =>
    Effect.gen(function* () {
      const failures = yield* BatchFailures
      const bad = { n: 1e30 }
      yield* EventPublisher.publishAll([event(bad), event(bad), event(bad)])
      yield* Relay.drain
      const ids = (yield* failures.list({})).map(({ id }) => id).toReversed()
      const [first, second, third] = yield* Effect.forEach(ids, (id) =>
        Effect.flatMap(failures.events(id), ([failed]) =>
          Effect.map(Effect.fromNullable(failed), ({ eventId }) => ({ id, eventId }))
        )
      )
      if (first === undefined || second === undefined || third === undefined) return expect.unreachable()
      expect(yield* failures.arrivals(ids)).toEqual({ pending: 0, delivered: 0, failed: 0 })

      yield* failures.correct(first.id, {
        eventId: first.eventId,
        correction: '{"event_context": {"n": 1}}',
        actor: ADA
      })
      expect(yield* failures.replayAll({ ids: [first.id, second.id] }, { actor: ADA })).toEqual({
        failures: [first.id, second.id],
        events: 2
      })
      expect(yield* failures.arrivals(ids)).toEqual({ pending: 2, delivered: 0, failed: 0 })
      yield* Relay.drain
      expect(yield* failures.arrivals(ids)).toEqual({ pending: 0, delivered: 1, failed: 1 })
      expect(yield* failures.arrivals([second.id])).toEqual({ pending: 0, delivered: 0, failed: 1 })

      const { nextFailureId } = yield* failures.get(second.id)
      const again = FailureId.make(nextFailureId ?? 0)
      yield* failures.correct(again, { eventId: second.eventId, correction: '{"event_context": {"n": 2}}', actor: ADA })
      yield* failures.replay(again, { actor: ADA })
      expect(yield* failures.arrivals([second.id])).toEqual({ pending: 1, delivered: 0, failed: 0 })
      expect(yield* failures.arrivals([second.id, again])).toEqual({ pending: 1, delivered: 0, failed: 0 })
      yield* Relay.drain
      expect(yield* failures.arrivals([...ids, again])).toEqual({ pending: 0, delivered: 2, failed: 0 })
    }).pipe(fresh)
  )

  it.effect("Replayed events are delivered also when they, or the rows that were refused, have left the outbox", () =>
    Effect.gen(function* () {
      const failures = yield* BatchFailures
      const sql = yield* SqlClient.SqlClient
      const { failureId } = yield* Failures.make(Arr.makeBy(3, (n) => event({ n })))
      yield* failures.replay(failureId, { actor: ADA })
      yield* Relay.drain
      const arrived = { pending: 0, delivered: 3, failed: 0 }
      expect(yield* failures.arrivals([failureId])).toEqual(arrived)
      yield* sql`DELETE FROM outbox.event WHERE tx_id = (SELECT max(tx_id::text::bigint)::text::xid8 FROM outbox.event)`
      expect(yield* sql`SELECT count(*)::integer AS rows FROM outbox.event`).toEqual([{ rows: 3 }])
      expect(yield* failures.arrivals([failureId])).toEqual(arrived)
      yield* sql`DELETE FROM outbox.event`
      expect(yield* failures.arrivals([failureId])).toEqual(arrived)
    }).pipe(fresh)
  )
})

layer(live, { excludeTestServices: true })("An event", (it) => {
  it.effect("An event is found wherever it is: unsealed, in a batch, failed, on its way again, delivered", () =>
    Effect.gen(function* () {
      const operations = yield* Operations.Operations
      const failures = yield* BatchFailures
      const where = (eventId: Event.EventId) =>
        Effect.map(operations.where(eventId), ({ places, state }) => ({
          state,
          places: places.map((place) => place.state)
        }))
      const { batchId, eventId, failureId } = yield* Failures.make([event({ n: 1 })])
      expect(yield* operations.where(eventId)).toMatchObject({
        state: "failed",
        places: [{ batchId, batchState: "failed", failureId, failureState: "open", eventType: "failure_tested" }]
      })
      const waiting = yield* EventPublisher.publish(event({ n: 2 }))
      expect(yield* where(waiting)).toEqual({ state: "pending", places: ["pending"] })
      yield* failures.replay(failureId, { actor: ADA })
      expect(yield* where(eventId)).toEqual({ state: "pending", places: ["pending", "failed"] })
      yield* Relay.drain
      expect(yield* where(eventId)).toEqual({ state: "delivered", places: ["delivered", "failed"] })
      expect(yield* where(waiting)).toEqual({ state: "delivered", places: ["delivered"] })
      const stranger = Event.EventId.make("01890a5d-ac96-774b-bcce-b302099a8057")
      expect((yield* Effect.flip(operations.where(stranger))).message).toContain("look in ClickHouse")
    }).pipe(fresh)
  )
})
