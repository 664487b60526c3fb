/** What an operator does about refused events with the command line. */
import { hostname, userInfo } from "node:os"
import * as SqlClient from "@effect/sql/SqlClient"
import { expect, layer } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as BatchFailures from "../../src/BatchFailures.ts"
import { table } from "../../src/Cli/print.ts"
import { ClickHouse } from "../../src/ClickHouse.ts"
import * as Event from "../../src/Event.ts"
import * as Cli from "../support/cli.ts"
import * as Environment from "../support/environment.ts"
import * as Failures from "../support/failures.ts"

const ME = `${userInfo().username}@${hostname()}`

const EXACT = "18446744073709551615"

const live = Layer.provideMerge(BatchFailures.layer, Environment.layer())

/** On databases of its own. */
const fresh = <A, E, R>(test: Effect.Effect<A, E, R>) => Effect.provide(Effect.scoped(test), live)

const failure = (eventType: string, events = 1) =>
  Failures.make(Array.from({ length: events }, (_, n) => Event.make({ eventType, eventContext: { n } })))

/** Runs commands two at a time, and returns how each ended. */
const runAll = (...commands: ReadonlyArray<string>) =>
  Effect.forEach(commands, (command) => Cli.run(command.split(" ")), { concurrency: 2 })

const UTC_AND_AGE = String.raw`20\d\d-\d\d-\d\d \d\d:\d\d:\d\dZ, \d+[sm] ago`

layer(live, { excludeTestServices: true })((it) => {
  it.effect(
    "An operator at the command line brings an event that ClickHouse refuses through failure, correction and replay into the table",
    () =>
      Effect.gen(function* () {
        const [good, bad] = ["0190aaaa-0000-7000-8000-000000000001", "0190aaaa-0000-7000-8000-000000000002"]
        const stdin = [
          `{"event_type":"scored","event_id":"${good}","event_context":{"n":1}}`,
          `{"event_type":"scored","event_id":"${bad}","event_context":{"n":1e30}}`
        ].join("\n")
        yield* Cli.run(["publish", "-"], { stdin })
        yield* Cli.run(["relay", "--until-empty"])
        const [list, where] = yield* runAll("failures list", `where ${bad}`)
        expect(list?.stdout).toMatch(
          new RegExp(
            "^ID {2}STATE {2}EVENTS {2}TYPE {4}CLASS {5}LAST SEEN +MESSAGE\n" +
              `1 {3}open {3}1 {7}scored {2}data 117 {2}${UTC_AND_AGE} {2}Cannot parse JSON object here: .+\n$`
          )
        )
        expect(where?.stdout).toContain(`event ${bad} is failed\n`)
        expect(where?.stdout).toContain("  in failure 1, open\n")
        const edited = yield* Cli.run(["failures", "edit", "1", "--context", `{"n": ${EXACT}}`, "--replay"])
        expect(edited).toEqual(Cli.succeeded(`corrected event ${bad} of failure 1\nreplayed 1 event of 1 failure\n`))
        yield* Cli.run(["relay", "--until-empty"])
        const [shown, delivered] = yield* runAll("failures show 1", `where ${bad}`)
        expect(delivered?.stdout).toContain(`event ${bad} is delivered\n`)
        expect(shown?.stdout).toMatch(
          /^failure +1, replayed\nevents +1, 1 of them replayed\nreplayed +1 delivered, 0 pending, 0 failed again\n/
        )
        expect(shown?.stdout).toContain(`"n": ${EXACT}`)
        expect(shown?.stdout).toContain(`  ${ME}  correct  ${bad}  {"event_context": {"n": 1${"0".repeat(30)}}}`)
        const rows = yield* Effect.flatMap(ClickHouse, (clickHouse) =>
          clickHouse.query("SELECT toString(event_id), toString(event_context.n) FROM event_log ORDER BY event_id")
        )
        expect(rows).toEqual([
          [good, "1"],
          [bad, EXACT]
        ])
      }).pipe(fresh)
  )

  it.effect(
    "An operator at the command line gets lists as one JSON array, also an empty one, and what is one as one object, to the last digit",
    () =>
      Effect.gen(function* () {
        const none = yield* runAll("failures list --json", "incidents list --json", "failures list")
        expect(none).toEqual([Cli.succeeded("[]\n"), Cli.succeeded("[]\n"), Cli.succeeded("no failures\n")])
        const first = yield* failure("a")
        const { batchId, eventId, failureId } = yield* failure("b", 2)
        const sql = yield* SqlClient.SqlClient
        yield* sql`
        UPDATE outbox.batch_failure_event SET event_context = ${`{"n": ${EXACT}0}`}::jsonb WHERE failure_id = ${failureId}
      `
        const ended = yield* runAll(
          "failures list --json --type b --class data --code 117 --state open --since 1h",
          `failures show --json --limit 1 ${failureId}`,
          `batches list --json --limit 1 --after ${batchId}`,
          `batches show ${batchId} --json`,
          `where ${eventId} --json`
        )
        for (const { code, stderr, stdout } of ended) {
          expect({ code, stderr, lines: stdout.split("\n").length }).toEqual({ code: 0, stderr: "", lines: 2 })
        }
        const [list, shown, batches, batch, where] = ended.map(({ stdout }) => JSON.parse(stdout))
        const head = { id: failureId, state: "open", batch_id: batchId, class: "data", code: 117, event_types: ["b"] }
        expect(list).toEqual([expect.objectContaining(head)])
        expect(shown).toMatchObject({ ...head, events: [{ event_id: eventId, event_type: "b" }], audit: [] })
        expect(shown.arrivals).toEqual({ pending: 0, delivered: 0, failed: 0 })
        expect(ended[1]?.stdout).toContain(`{"n": ${EXACT}0}`)
        expect(batches).toMatchObject([{ id: first.batchId, state: "failed", failure_id: first.failureId }])
        expect(batch).toMatchObject({ id: batchId, event_count: 2, failure_id: failureId, children: [] })
        expect(where).toMatchObject({ state: "failed", places: [{ batch_id: batchId, failure_id: failureId }] })
      }).pipe(fresh)
  )

  it.effect(
    "An operator at the command line is told how to see more, and sees nothing of an event that a terminal would act on or not show",
    () =>
      Effect.gen(function* () {
        const { failureId } = yield* failure("\u202e\x9b\u{e0041}")
        const sql = yield* SqlClient.SqlClient
        yield* sql`
        UPDATE outbox.batch_failure SET error_message = ${"Code: 117. DB::Exception: \x1b]0;title\x07\u200b\nsecond line"}
        WHERE id = ${failureId}
      `
        const ended = yield* runAll(
          "failures list --limit 1",
          `failures show ${failureId}`,
          `failures show ${failureId} --json`
        )
        for (const { stdout } of ended) {
          expect(stdout).toContain("\\u202e\\u009b\\udb40\\udc41")
          expect(stdout.replaceAll("\n", "")).not.toMatch(/[\p{Cc}\p{Bidi_Control}\p{Default_Ignorable_Code_Point}]/u)
        }
        const [list, shown, json] = ended.map(({ stdout }) => stdout)
        expect(list).toContain("  \\u001b]0;title\\u0007\\u200b second line\n")
        expect(list).toContain(`\nThere may be more: add --after ${failureId}\n`)
        expect(shown).toContain("\\u001b]0;title\\u0007\\u200b\n  second line\n")
        expect(JSON.parse(json ?? "").event_types).toEqual(["\u202e\x9b\u{e0041}"])
      })
  )

  it("An operator at the command line sees tables whose rows fit the terminal, by the columns that characters take", () => {
    const rows = [
      ["ID", "TYPE", "MESSAGE"],
      ["1", "東京", "e\u0301 and more than there is room for"],
      ["22", "a", ""]
    ]
    expect(table(rows, 20)).toBe("ID  TYPE  MESSAGE\n1   東京  e\u0301 and mor…\n22  a")
  })

  it.effect(
    "An operator at the command line replays each of several failures, and is told of those that cannot be",
    () =>
      Effect.gen(function* () {
        const [one, closed, several] = [yield* failure("x"), yield* failure("x"), yield* failure("x", 3)]
        const ids = [one, closed, several].map(({ failureId }) => failureId)
        const resolved = yield* Cli.run(["failures", "resolve", `${closed.failureId}`, "--note", "by hand"])
        expect(resolved).toEqual(Cli.succeeded(`resolved failure ${closed.failureId}\n`))
        const event = yield* runAll(`failures replay ${several.failureId} --event ${several.eventId}`)
        expect(event).toEqual([Cli.succeeded("replayed 1 event of 1 failure\n")])
        expect(yield* Cli.run(["failures", "replay", ...ids.map(String), "999"])).toEqual({
          code: 1,
          stdout: "replayed 3 events of 2 failures\n",
          stderr:
            `Failure ${closed.failureId} is resolved already. Nothing was changed\n` +
            "There is no failure 999. Closed ones are deleted after OUTBOX_FAILURE_RETENTION\n"
        })
      })
  )

  it.effect("An operator at the command line replays all that match, and everything only after saying so", () =>
    Effect.gen(function* () {
      yield* failure("a", 2)
      yield* failure("b")
      const [nobodyToAsk, filtered] = yield* runAll("failures replay --all", "failures replay --all --type a")
      expect(nobodyToAsk).toEqual(Cli.failed("To replay every open failure, say --yes, or say which\n"))
      expect(filtered).toEqual(Cli.succeeded("replayed 2 events of 1 failure\n"))
      const [all] = yield* runAll("failures replay --all --yes")
      expect(all).toEqual(Cli.succeeded("replayed 1 event of 1 failure\n"))
    }).pipe(fresh)
  )

  it.effect("An operator at the command line pauses all relays and resumes them, saying who and why", () =>
    Effect.gen(function* () {
      const paused = yield* Cli.run(["pause", "--reason", "moving ClickHouse"])
      expect(paused).toEqual(Cli.succeeded('paused: no relay takes a batch until "clickhouse-outbox resume"\n'))
      expect(yield* Cli.run(["pause", "--reason", "again"])).toEqual(
        Cli.failed(expect.stringMatching(`^Relays are paused already, by ${ME} since .+: moving ClickHouse\n$`))
      )
      expect(yield* Cli.run(["resume"])).toEqual(
        Cli.succeeded(expect.stringMatching(`^resumed; paused by ${ME} since ${UTC_AND_AGE}: moving ClickHouse\n$`))
      )
      expect(yield* Cli.run(["resume"])).toEqual(Cli.failed("Relays are not paused\n"))
    })
  )
})
