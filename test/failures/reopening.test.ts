/** Taking back what was decided about failures, and deciding about several at once. */
import * as SqlClient from "@effect/sql/SqlClient"
import { expect, layer } from "@effect/vitest"
import * as Arr from "effect/Array"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { Actor, BatchFailures, FailureId } from "../../src/BatchFailures.ts"
import * as Event from "../../src/Event.ts"
import { OutboxStore } from "../../src/OutboxStore.ts"
import * as Cli from "../support/cli.ts"
import * as Environment from "../support/environment.ts"
import { counts } from "../support/eventLog.ts"
import * as Failures from "../support/failures.ts"
import { asker, issuesOf, services } from "../support/operator.ts"
import { drain } from "../support/relay.ts"

const live = Layer.provideMerge(services, Environment.layer())

/** On databases of its own. */
const fresh = <A, E, R>(test: Effect.Effect<A, E, R>) => Effect.provide(Effect.scoped(test), live)

const ADA = Actor.make("ada@laptop")
const GRACE = Actor.make("grace")

const event = Event.make({ eventType: "reopened", eventContext: {} })

const states = (ids: ReadonlyArray<FailureId>) =>
  Effect.flatMap(BatchFailures, ({ get }) => Effect.forEach(ids, (id) => Effect.map(get(id), ({ state }) => state)))

layer(live, { excludeTestServices: true })("A failure that was closed", (it) => {
  it.scoped("A failure that was closed by discarding or resolving it can be reopened, and then delivered", () =>
    Effect.gen(function* () {
      const failures = yield* BatchFailures
      const { failureId } = yield* Failures.make([event])
      const { failureId: other } = yield* Failures.make([event])
      yield* failures.discard(failureId, { note: "a test", actor: ADA })
      yield* failures.resolve(other, { note: "by hand", actor: ADA })
      for (const id of [failureId, other]) {
        expect(yield* failures.reopen(id, { actor: GRACE })).toMatchObject({
          id,
          state: "open",
          note: null,
          closedAt: null
        })
        expect(yield* failures.replay(id, { actor: ADA })).toEqual({ failures: [id], events: 1 })
      }
      const audit = yield* failures.audit(failureId)
      expect(audit.map(({ action, actor }) => [action, actor])).toEqual([
        ["replay", ADA],
        ["reopen", "grace"],
        ["discard", ADA]
      ])
      expect(JSON.parse(audit[1]?.before ?? "")).toEqual({ state: "discarded", note: "a test" })
      expect(JSON.parse(audit[1]?.after ?? "")).toEqual({ state: "open" })
      yield* drain
      expect(yield* counts).toEqual({ rows: 2, events: 2 })
    }).pipe(fresh)
  )

  it.scoped(
    "A failure that was closed keeps what was replayed before it was discarded: that is published, and not published again",
    () =>
      Effect.gen(function* () {
        const failures = yield* BatchFailures
        const { eventId, failureId } = yield* Failures.make([event, event])
        yield* failures.replayEvent(failureId, { eventId, actor: ADA })
        yield* failures.discard(failureId, { note: "enough", actor: ADA })
        expect(yield* failures.reopen(failureId, { actor: ADA })).toMatchObject({ state: "open", replayedCount: 1 })
        expect(yield* failures.replay(failureId, { actor: ADA })).toEqual({ failures: [failureId], events: 1 })
        yield* drain
        expect(yield* counts).toEqual({ rows: 2, events: 2 })
      }).pipe(fresh)
  )

  it.scoped("A failure that was closed by replaying it cannot be reopened, nor can one that is open", () =>
    Effect.gen(function* () {
      const failures = yield* BatchFailures
      const { failureId } = yield* Failures.make([event])
      expect((yield* Effect.flip(failures.reopen(failureId, { actor: ADA }))).message).toContain("is open already")
      yield* failures.replay(failureId, { actor: ADA })
      expect((yield* Effect.flip(failures.reopen(failureId, { actor: ADA }))).message).toContain(
        "which cannot be taken back"
      )
      expect(yield* failures.audit(failureId)).toHaveLength(1)
      expect((yield* Effect.flip(failures.reopen(FailureId.make(4_711), { actor: ADA })))._tag).toBe("FailureNotFound")
    })
  )

  it.scoped("A failure that was closed is reopened once by five who do it at once", () =>
    Effect.gen(function* () {
      const failures = yield* BatchFailures
      const { failureId } = yield* Failures.make([event])
      yield* failures.discard(failureId, { note: "a test", actor: ADA })
      const presses = yield* Effect.all(
        Arr.makeBy(5, () => Effect.either(failures.reopen(failureId, { actor: ADA }))),
        { concurrency: "unbounded" }
      )
      expect(presses.filter(({ _tag }) => _tag === "Right")).toHaveLength(1)
      expect(yield* failures.audit(failureId)).toHaveLength(2)
    })
  )

  it.scoped("A failure that was closed is not deleted when it is reopened in the moment in which its time is up", () =>
    Effect.gen(function* () {
      const failures = yield* BatchFailures
      const store = yield* OutboxStore
      const sql = yield* SqlClient.SqlClient
      const { failureId } = yield* Failures.make([event])
      yield* failures.discard(failureId, { note: "a test", actor: ADA })
      const { failureId: bystander } = yield* Failures.make([event])
      yield* failures.discard(bystander, { note: "a test", actor: ADA })
      yield* sql`UPDATE outbox.batch_failure SET closed_at = closed_at - interval '2 days'`
      // As `reopen` does, whose transaction has not ended yet.
      const session = yield* sql.reserve
      yield* session.executeRaw("BEGIN", [])
      yield* session.executeRaw(
        "UPDATE outbox.batch_failure SET state = 'open', note = NULL, closed_at = NULL WHERE id = $1",
        [failureId]
      )
      yield* store.maintain({
        eventRetention: Duration.days(1),
        failureRetention: Duration.days(1),
        incidentAfter: Duration.minutes(1)
      })
      yield* session.executeRaw("COMMIT", [])
      expect(yield* failures.get(failureId)).toMatchObject({ state: "open" })
      expect(yield* failures.events(failureId)).toHaveLength(1)
      expect((yield* Effect.flip(failures.get(bystander)))._tag).toBe("FailureNotFound")
    }).pipe(fresh)
  )
})

layer(live, { excludeTestServices: true })("Several failures", (it) => {
  const make = Effect.map(
    Effect.forEach(Arr.range(1, 3), () => Failures.make([event])),
    Arr.map(({ failureId }) => failureId)
  )

  it.scoped(
    "Several failures are discarded in one go, and what is closed stays as it is; and taken back in one go",
    () =>
      Effect.gen(function* () {
        const ask = yield* asker()
        const ids = yield* make
        const [a = 0, b = 0, c = 0] = ids
        yield* Effect.flatMap(BatchFailures, ({ resolve }) =>
          resolve(FailureId.make(b), { note: "by hand", actor: ADA })
        )
        const discarded = yield* ask("POST /api/failures/discard", {
          body: JSON.stringify({ ids: [c, a, b, 4_711], note: "a test" }),
          headers: { "x-operator": "grace" }
        })
        expect(discarded).toMatchObject({ status: 200, json: { failures: [a, c] } })
        expect(yield* states(ids)).toEqual(["discarded", "resolved", "discarded"])
        const body = JSON.stringify(discarded.json).replace("failures", "ids")
        expect((yield* ask("POST /api/failures/reopen", { body })).json).toEqual({ failures: [a, c] })
        expect(yield* states(ids)).toEqual(["open", "resolved", "open"])
        expect((yield* ask(`GET /api/failures/${a}/audit`)).json).toMatchObject({
          entries: [
            { action: "reopen", actor: "api", before: { state: "discarded", note: "a test" } },
            { action: "discard", actor: "grace", after: { state: "discarded", note: "a test" } }
          ]
        })
      })
  )

  it.scoped("Several failures are replayed by their ids, those that match everything else that is given", () =>
    Effect.gen(function* () {
      const ask = yield* asker()
      const ids = yield* make
      const replay = (filter: object) =>
        Effect.map(ask("POST /api/failures/replay", { body: JSON.stringify(filter) }), ({ json }) => json)
      expect(yield* replay({ ids: ids.slice(0, 2), code: 6 })).toEqual({ failures: [], events: 0 })
      expect(yield* replay({ ids: ids.slice(0, 2) })).toEqual({ failures: ids.slice(0, 2), events: 2 })
      expect(yield* replay({ ids })).toEqual({ failures: ids.slice(2), events: 1 })
      expect(yield* states(ids)).toEqual(["replayed", "replayed", "replayed"])
    })
  )

  const refused: Record<string, [request: string, body: string, says: string]> = {
    "no ids": ["POST /api/failures/discard", '{"ids": [], "note": "x"}', "ids: Must not be empty"],
    "no note": ["POST /api/failures/discard", '{"ids": [1]}', "note: is missing"],
    "too many": [
      "POST /api/failures/reopen",
      JSON.stringify({ ids: Arr.range(1, 501) }),
      "ids: Must have 500 ids at most"
    ],
    "too many to replay": [
      "POST /api/failures/replay",
      JSON.stringify({ ids: Arr.range(1, 501) }),
      "ids: Must have 500 ids at most"
    ],
    "an id that is none": ["POST /api/failures/reopen", '{"ids": ["1"]}', "ids.0: "]
  }

  it.scoped("Several failures are left alone by a request that is not understood", () =>
    Effect.gen(function* () {
      const ask = yield* asker()
      for (const [what, [request, body, says]] of Object.entries(refused)) {
        const answer = yield* ask(request, { body })
        expect({ what, status: answer.status }).toEqual({ what, status: 400 })
        expect(issuesOf(answer).join("\n"), what).toContain(says)
      }
    })
  )

  it.scoped("Several failures on the command line are reopened one by one, and it says which cannot be", () =>
    Effect.gen(function* () {
      const { discard, replay } = yield* BatchFailures
      const [a = FailureId.make(1), b = FailureId.make(2)] = yield* make
      yield* discard(a, { note: "a test", actor: ADA })
      yield* replay(b, { actor: ADA })
      expect(yield* Cli.run(["failures", "reopen", String(a), String(b)])).toEqual({
        code: 1,
        stdout: `reopened failure ${a}\n`,
        stderr: `Failure ${b} cannot be reopened: all of its events were published again, which cannot be taken back. Nothing was changed\n`
      })
      expect(yield* states([a, b])).toEqual(["open", "replayed"])
    })
  )

  it.scoped("Several failures on the command line one that is closed is shown with what takes it back", () =>
    Effect.gen(function* () {
      const [a = FailureId.make(1)] = yield* make
      yield* Effect.flatMap(BatchFailures, ({ discard }) => discard(a, { note: "a test", actor: ADA }))
      const { stdout } = yield* Cli.run(["failures", "show", String(a)])
      expect(stdout).toContain(`clickhouse-outbox failures reopen ${a}`)
    })
  )

  it.scoped("Several failures answer a conflict to whoever would reopen one that is open", () =>
    Effect.gen(function* () {
      const ask = yield* asker()
      const { failureId } = yield* Failures.make([event])
      const request = `POST /api/failures/${failureId}/reopen`
      expect(yield* ask(request)).toMatchObject({
        status: 409,
        json: { type: "urn:clickhouse-outbox:failure-not-reopened" }
      })
      yield* ask(`POST /api/failures/${failureId}/discard`, { body: '{"note": "a test"}' })
      expect(yield* ask(request)).toMatchObject({ status: 200, json: { id: failureId, state: "open" } })
    })
  )
})
