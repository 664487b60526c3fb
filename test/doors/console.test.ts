/** The console, in a real browser, over a real relay and real databases. */
import { readFileSync } from "node:fs"
import { createRequire } from "node:module"
import * as SqlClient from "@effect/sql/SqlClient"
import { expect, layer } from "@effect/vitest"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type { Page, Browser as PlaywrightBrowser } from "playwright-core"
import { describe, test } from "vitest"
import { buildIfStale } from "../../console/build.ts"
import { BatchFailures } from "../../src/BatchFailures.ts"
import { ClickHouse } from "../../src/ClickHouse.ts"
import type * as Config from "../../src/Config.ts"
import * as Event from "../../src/Event.ts"
import * as EventPublisher from "../../src/EventPublisher.ts"
import * as Operations from "../../src/Operations.ts"
import { CHROMIUM, isInstalled, launch, open } from "../support/browser.ts"
import * as Environment from "../support/environment.ts"
import * as Failures from "../support/failures.ts"
import * as Operator from "../support/operator.ts"
import * as Relay from "../support/relay.ts"
import { until } from "../support/wait.ts"
import { isWhole } from "../support/whole.ts"

class Browser extends Context.Tag("test/Browser")<Browser, PlaywrightBrowser>() {}

const BrowserLive = Layer.scoped(Browser, Effect.zipRight(Effect.sync(buildIfStale), launch))

const Live = Layer.mergeAll(
  BrowserLive,
  Layer.provideMerge(Operator.services, Environment.layer({ OUTBOX_LINGER: "50 millis" }))
)

const promise = <A>(use: () => Promise<A>) => Effect.promise(use)

/** A tab at a view, of a server of its own. */
const visit = (path: string, http?: Config.Http, options?: Parameters<typeof open>[2]) =>
  Effect.gen(function* () {
    const url = yield* Operator.start(http, { concurrency: 4 })
    return yield* open(yield* Browser, `${url}${path}`, options)
  })

/** JSON that is right to Postgres and not to ClickHouse. */
const TOO_LARGE = "123456789012345678901"

const publishRefused = (type: string) =>
  Effect.flatMap(
    SqlClient.SqlClient,
    (sql) => sql<{ id: string }>`
      SELECT outbox.publish(${type}, ${`{"order": 48213, "total": ${TOO_LARGE}}`}::jsonb)::text AS id
    `
  ).pipe(Effect.map(([row]) => Event.EventId.make(row?.id ?? "")))

/** As somebody at a keyboard replaces text in the editor. */
const replaceInEditor = async (page: Page, from: string, to: string) => {
  const editor = page.getByRole("textbox", { name: "event_context, as JSON" })
  await editor.getByText(from).waitFor()
  const text = (await editor.locator(".cm-line").allInnerTexts()).join("\n")
  await editor.click()
  await page.keyboard.press("Control+a")
  await page.keyboard.insertText(text.replace(from, to))
}

const AXE = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8")

/** What axe finds wrong, by WCAG 2.2 AA and its best practices. */
const violations = async (page: Page) => {
  await page.evaluate(AXE)
  const found: unknown = await page.evaluate(`
    axe.run(document).then(({ violations }) =>
      violations.flatMap(({ id, nodes }) => nodes.map(({ failureSummary, html }) => [id, html, failureSummary].join(" ")))
    )
  `)
  return found
}

describe.runIf(isInstalled)(`The console, in ${CHROMIUM}`, () => {
  layer(Live, { excludeTestServices: true })((it) => {
    it.scoped(
      `The console, in ${CHROMIUM} leads from the front page to a refused event, corrects it, replays it, and shows it in ClickHouse`,
      () =>
        Effect.gen(function* () {
          const eventId = yield* publishRefused("order_placed")
          yield* Relay.start()
          const { complaints, page } = yield* visit("/")
          yield* promise(async () => {
            await page.getByText("1 failure needs you: ClickHouse refused 1 event.", { exact: true }).waitFor()
            await page.getByRole("link", { name: "Look at it" }).click()
            await page.getByRole("link", { name: /^#\d+$/ }).click()
            await page.getByText("ClickHouse’s JSON holds integers of 64 bits").waitFor()

            await replaceInEditor(page, TOO_LARGE, "1234.5")
            await page.getByText("Changed: event_context.").waitFor()
            // What was, beside what is.
            await page.locator(".cm-deletedChunk", { hasText: TOO_LARGE }).waitFor()

            await page.getByRole("button", { name: "Save and replay…" }).click()
            await page.getByLabel("Your name, for the audit trail").fill("ada")
            await page.getByRole("button", { name: "Save and replay", exact: true }).click()
            await page.getByText("No open failure is left.").waitFor()
            // The button is gone: whoever has no mouse goes on from where it was.
            expect(await page.evaluate("document.activeElement?.textContent")).toBe("The event")
            await page.getByRole("link", { name: "See it there" }).click()
            await page.getByRole("region", { name: "In ClickHouse" }).getByText('"total": 1234.5').waitFor()
            await page.getByRole("link", { name: "Overview" }).click()
            await page
              .getByText(/^All is well: /)
              .first()
              .waitFor()
          })
          expect(complaints).toEqual([])
          const clickHouse = yield* ClickHouse
          expect(
            yield* clickHouse.query("SELECT toJSONString(event_context) FROM event_log WHERE event_id = {id:UUID}", {
              id: eventId
            })
          ).toEqual([['{"order":48213,"total":1234.5}']])
          const sql = yield* SqlClient.SqlClient
          expect(
            yield* sql`SELECT actor, action FROM outbox.audit WHERE event_id = ${eventId}::uuid ORDER BY id`
          ).toEqual([
            { actor: "ada", action: "correct" },
            { actor: "ada", action: "replay" }
          ])
        })
    )

    it.scoped(`The console, in ${CHROMIUM} keeps every digit of what it does not change`, () =>
      Effect.gen(function* () {
        const { eventId, failureId } = yield* Failures.make([
          Event.make({ eventType: "digits_tested", eventContext: { name: "before" } })
        ])
        const sql = yield* SqlClient.SqlClient
        yield* sql`
          UPDATE outbox.batch_failure_event SET event_context = '{"n": 12345678901234567890.123456789, "name": "before"}'
          WHERE failure_id = ${failureId}
        `
        const { complaints, page } = yield* visit(`/failures/${failureId}`)
        yield* promise(async () => {
          await replaceInEditor(page, "before", "after")
          await page.getByRole("button", { name: "Save…" }).click()
          await page.getByLabel("Your name, for the audit trail").fill("ada")
          await page.getByRole("button", { name: "Save", exact: true }).click()
          await page.getByText("Saved. It is sent once you replay it.").waitFor()
          await page.getByRole("button", { name: "Replay…", exact: true }).waitFor()
          expect(await page.getByText("Somebody corrected this event").count()).toBe(0)
        })
        const context = sql<{ text: string }>`
          SELECT event_context::text AS text FROM outbox.batch_failure_event WHERE event_id = ${eventId}::uuid
        `
        expect(yield* context).toEqual([{ text: '{"n": 12345678901234567890.123456789, "name": "after"}' }])

        yield* promise(() => page.getByRole("button", { name: "Undo" }).click())
        yield* until(context, ([row]) => row?.text.includes("before") === true)
        yield* promise(async () => {
          await page.getByRole("button", { name: "Replay as it is…" }).waitFor()
          await page.goto(new URL("/failures?type=digits_tested", page.url()).href)
          const row = page.getByRole("row", { name: new RegExp(`#${failureId} open`) })
          await row.waitFor()
          expect(await row.getByText("corrected").count()).toBe(0)
          await row.getByRole("link").click()
          await page.getByText("event_context, back to what was refused").waitFor()
          await page.getByRole("link", { name: "← Failures" }).click()
          expect(new URL(page.url()).search).toBe("?type=digits_tested")
        })
        expect(complaints).toEqual([])
      })
    )

    it.scoped.runIf(isWhole)(
      `The console, in ${CHROMIUM} keeps what was written and not saved while somebody looks elsewhere`,
      () =>
        Effect.gen(function* () {
          const { failureId } = yield* Failures.make([
            Event.make({ eventType: "draft_tested", eventContext: { name: "before" } })
          ])
          const { complaints, page } = yield* visit(`/failures/${failureId}`)
          yield* promise(async () => {
            await replaceInEditor(page, "before", "after")
            await page.getByText("Changed: event_context.").waitFor()
            await page.getByRole("link", { name: "Batches" }).click()
            await page.getByRole("heading", { name: "Batches" }).waitFor()
            await page.goBack()
            await page.getByText("Changed: event_context.").waitFor()
            await page.getByRole("button", { name: "Take changes back" }).click()
            await page.getByText("What you change is shown beside what it was.").waitFor()
          })
          expect(complaints).toEqual([])
        })
    )

    it.scoped(
      `The console, in ${CHROMIUM} does not let anybody send what is no JSON object, and says where it is wrong`,
      () =>
        Effect.gen(function* () {
          const { failureId } = yield* Failures.make([
            Event.make({ eventType: "syntax_tested", eventContext: { name: "before" } })
          ])
          const { page } = yield* visit(`/failures/${failureId}`)
          yield* promise(async () => {
            await replaceInEditor(page, '"before"', "before")
            await page.getByText(/^Line 2: This is not JSON: [^0-9]*$/).waitFor()
            await page.getByText("Not to be saved yet: the context is no JSON object.").waitFor()
            expect(await page.getByRole("button", { name: "Save and replay…" }).isDisabled()).toBe(true)
            expect(await page.getByRole("button", { name: "Save…" }).isDisabled()).toBe(true)
          })
        })
    )

    it.scoped.runIf(isWhole)(
      `The console, in ${CHROMIUM} shows what the server does not accept, field by field, and changes nothing`,
      () =>
        Effect.gen(function* () {
          const { failureId } = yield* Failures.make([Event.make({ eventType: "time_tested", eventContext: {} })])
          const { complaints, page } = yield* visit(`/failures/${failureId}`)
          yield* promise(async () => {
            await page.getByText("Type, time and version").click()
            await page.getByLabel("event_date_time").fill("yesterday")
            await page.getByRole("button", { name: "Save…" }).click()
            await page.getByLabel("Your name, for the audit trail").fill("ada")
            await page.getByRole("button", { name: "Save", exact: true }).click()
            const alert = page.getByRole("dialog").getByRole("alert")
            await alert.getByText("The event could not be published like this").waitFor()
            expect(await alert.getByRole("listitem").innerText()).toContain("event_date_time")
          })
          expect(complaints).toEqual([])
        })
    )

    it.scoped.runIf(isWhole)(
      `The console, in ${CHROMIUM} discards several failures at once with a note, and takes it back`,
      () =>
        Effect.gen(function* () {
          const event = Event.make({ eventType: "discard_tested", eventContext: {} })
          const ids = [(yield* Failures.make([event])).failureId, (yield* Failures.make([event])).failureId]
          const { complaints, page } = yield* visit("/failures?type=discard_tested")
          const sql = yield* SqlClient.SqlClient
          const states = sql<{ state: string; note: string | null }>`
          SELECT state, note FROM outbox.batch_failure WHERE id = ANY (${ids}::bigint[])
        `
          yield* promise(async () => {
            await page.getByLabel("Select all open failures shown").check()
            await page.getByText("2 failures selected").waitFor()
            await page.getByRole("button", { name: "Discard…" }).click()
            await page.getByLabel("Why they are not to arrive").fill(" made by a test\n")
            await page.getByLabel("Your name, for the audit trail").fill("ada")
            await page.getByRole("button", { name: "Discard 2 events" }).click()
            await page.getByText("No failure matches.").waitFor()
          })
          expect(yield* states).toEqual([
            { state: "discarded", note: "made by a test" },
            { state: "discarded", note: "made by a test" }
          ])
          const told = (yield* visit("/audit")).page
          yield* promise(async () => {
            for (const id of ids) {
              await told.getByText(`ada discarded failure ${id}: “made by a test”`).waitFor()
            }
            await page.getByRole("button", { name: "Undo" }).click()
            await page.getByText("Reopened 2 failures.").waitFor()
          })
          expect((yield* states).map(({ state }) => state)).toEqual(["open", "open"])
          expect(complaints).toEqual([])
        })
    )

    it.scoped(
      `The console, in ${CHROMIUM} replays all that match a filter, also those that are not shown, and no other`,
      () =>
        Effect.gen(function* () {
          const matching = Event.make({ eventType: "match_tested", eventContext: {} })
          const ids = yield* Effect.forEach([1, 2, 3], () => Failures.make([matching]))
          const other = yield* Failures.make([Event.make({ eventType: "other_tested", eventContext: {} })])
          const { complaints, page } = yield* visit("/failures?type=match_tested")
          yield* promise(async () => {
            await page.getByRole("button", { name: "Replay all that match…" }).click()
            await page.getByLabel("Your name, for the audit trail").fill("ada")
            await page.getByRole("button", { name: "Replay all", exact: true }).click()
            await page.getByText("Replayed 3 events of 3 failures.").waitFor()
          })
          const sql = yield* SqlClient.SqlClient
          expect(
            yield* sql`
            SELECT state, count(*)::integer AS failures
            FROM outbox.batch_failure
            WHERE id = ANY (${[other, ...ids].map(({ failureId }) => failureId)}::bigint[])
            GROUP BY state
            ORDER BY state
          `
          ).toEqual([
            { state: "open", failures: 1 },
            { state: "replayed", failures: 3 }
          ])
          expect(complaints).toEqual([])
        })
    )

    it.scoped.runIf(isWhole)(
      `The console, in ${CHROMIUM} counts what was replayed in as it arrives, of one failure and of several`,
      () =>
        Effect.gen(function* () {
          const event = Event.make({ eventType: "count_tested", eventContext: {} })
          const { failureId } = yield* Failures.make([event, event])
          const corrected = yield* Failures.make([event])
          yield* Failures.make([event])
          const { correct } = yield* BatchFailures
          yield* correct(corrected.failureId, {
            eventId: corrected.eventId,
            correction: '{"event_context": {"n": 1}}',
            actor: Failures.ADA
          })
          const { complaints, page } = yield* visit(`/failures/${failureId}`)
          yield* promise(async () => {
            await page.getByRole("button", { name: "Replay all 2…" }).click()
            await page.getByLabel("Your name, for the audit trail").fill("ada")
            await page.getByRole("button", { name: "Replay 2 events" }).click()
            await page.getByText("Replayed: 0 of 2 events in ClickHouse, 2 on the way.").waitFor()
            await page.goto(new URL("/failures?type=count_tested", page.url()).href)
            await page.getByRole("row", { name: new RegExp(`#${corrected.failureId} open corrected`) }).waitFor()
            await page.getByLabel("Select all open failures shown").check()
            await page.getByRole("button", { name: "Replay…", exact: true }).click()
            await page.getByText("1 of these failures was refused for data that nobody has corrected").waitFor()
            await page.getByRole("button", { name: "Replay 2 events" }).click()
            await page
              .getByText("Replayed 2 events of 2 failures. 0 of 2 events in ClickHouse, 2 on the way.")
              .waitFor()
          })
          yield* Relay.start()
          yield* promise(async () => {
            await page.getByText("Replayed 2 events of 2 failures. 2 events in ClickHouse.").waitFor()
            await page.goto(new URL(`/failures/${failureId}`, page.url()).href)
            await page.getByText("Replayed: 2 events in ClickHouse.").waitFor()
          })
          expect(complaints).toEqual([])
        })
    )

    it.scoped.runIf(isWhole)(
      `The console, in ${CHROMIUM} keeps what became of each replay: refused again, and arrived from there`,
      () =>
        Effect.gen(function* () {
          const failures = yield* BatchFailures
          const eventId = yield* publishRefused("again_tested")
          yield* Relay.drain
          const open = failures.list({ state: "open", eventType: "again_tested" })
          const [first] = yield* open
          if (first === undefined) return expect.unreachable()
          yield* failures.replay(first.id, { actor: Failures.ADA })
          yield* Relay.drain
          const [second] = yield* open
          if (second === undefined) return expect.unreachable()
          const { complaints, page } = yield* visit(`/failures/${first.id}`)
          yield* promise(async () => {
            await page.getByText(`ClickHouse refused it again, as failure ${second.id}`).waitFor()
            await page.getByRole("link", { name: `Next: failure ${second.id}` }).waitFor()
          })
          yield* failures.correct(second.id, {
            eventId,
            correction: '{"event_context": {"total": 1}}',
            actor: Failures.ADA
          })
          yield* failures.replay(second.id, { actor: Failures.ADA })
          yield* Relay.drain
          yield* promise(async () => {
            await page.reload()
            await page.getByText(`as failure ${second.id}, from which it was replayed and has arrived`).waitFor()
            await page.goto(new URL(`/failures/${second.id}`, page.url()).href)
            await page.getByRole("link", { name: "See it there" }).waitFor()
          })
          expect(complaints).toEqual([])
        })
    )

    it.scoped(
      `The console, in ${CHROMIUM} asks for the token where there is one, says when it is wrong, and forgets it on leaving`,
      () =>
        Effect.gen(function* () {
          const { complaints, page } = yield* visit("/", Operator.withToken)
          yield* promise(async () => {
            await page.getByLabel("Token").fill("wrong")
            await page.getByRole("button", { name: "Sign in" }).click()
            await page.getByText("This is not the token.").waitFor()
            await page.getByLabel("Token").fill(Operator.TOKEN)
            await page.keyboard.press("Enter")
            await page.getByRole("heading", { name: "Overview" }).waitFor()
            await page.reload()
            await page.getByRole("heading", { name: "Overview" }).waitFor()
            await page.getByRole("button", { name: "Sign out" }).click()
            await page.getByLabel("Token").waitFor()
            expect(await page.evaluate("sessionStorage.length")).toBe(0)
          })
          expect(complaints).toEqual([])
        })
    )

    it.scoped(
      `The console, in ${CHROMIUM} shows who is signed in, and hides from a reader what a reader may not do`,
      () =>
        Effect.gen(function* () {
          const { failureId } = yield* Failures.make([Event.make({ eventType: "role_tested", eventContext: { a: 1 } })])
          const { complaints, page } = yield* visit(`/failures/${failureId}`, {
            ...Operator.config,
            tokens: [Operator.named("ada", "operator"), Operator.named("bob", "reader")]
          })
          const signIn = async (name: string) => {
            await page.getByLabel("Token").fill(Operator.tokenOf(name))
            await page.getByRole("button", { name: "Sign in" }).click()
          }
          yield* promise(async () => {
            await signIn("bob")
            await page.getByText("as bob, a reader").waitFor()
            await page.getByText("role_tested").first().waitFor()
            for (const path of [`/failures/${failureId}`, "/failures?type=role_tested", "/"]) {
              await page.goto(new URL(path, page.url()).href)
              await page.getByText("as bob, a reader").waitFor()
              await page.getByRole("heading", { level: 1 }).waitFor()
              expect(await page.getByRole("button", { name: /Replay|Discard|Resolve|Pause|Save/ }).count()).toBe(0)
              expect(await page.getByRole("checkbox").count()).toBe(0)
            }
            await page.goto(new URL(`/failures/${failureId}`, page.url()).href)
            await page.getByLabel("event_context").waitFor()
            expect(await violations(page)).toEqual([])
            await page.getByRole("button", { name: "Sign out" }).click()
            await signIn("ada")
            await page.getByText("as ada").waitFor()
            await page.getByRole("button", { name: "Discard…" }).click()
            // It is known who this is: nobody is asked.
            await page.getByLabel("Why the event is not to arrive").fill("test")
            expect(await page.getByLabel("Your name, for the audit trail").count()).toBe(0)
            await page.getByRole("button", { name: "Discard 1 event" }).click()
            await page.getByText(`Discarded failure ${failureId}.`).first().waitFor()
          })
          const [entry] = yield* (yield* BatchFailures).audit(failureId)
          expect(entry).toMatchObject({ actor: "ada", action: "discard" })
          expect(complaints).toEqual([])
        })
    )

    it.scoped(`The console, in ${CHROMIUM} finds an event by its id, wherever it is`, () =>
      Effect.gen(function* () {
        const eventId = yield* EventPublisher.publish(Event.make({ eventType: "find_tested", eventContext: { n: 1 } }))
        const { complaints, page } = yield* visit("/events")
        yield* promise(async () => {
          await page.getByLabel("Where is event").fill(eventId)
          await page.keyboard.press("Enter")
          await page.getByText("On its way to ClickHouse.").waitFor()
          await page.getByText("Not there yet.").waitFor()
        })
        yield* Relay.start()
        yield* promise(async () => {
          await page.getByText("ClickHouse has it.").waitFor()
          await page.getByRole("region", { name: "In ClickHouse" }).getByText("find_tested").waitFor()
          await page.goto(new URL("/events/01a1fb4b-f0eb-77ab-b942-67d230829a9b", page.url()).href)
          await page.getByText("Not there, nor in a failure.").waitFor()
          await page.goto(new URL("/events/nonsense", page.url()).href)
          await page.getByText("This is no event’s id.").waitFor()
        })
        expect(complaints).toEqual([])
      })
    )

    it.scoped.runIf(isWhole)(`The console, in ${CHROMIUM} explores what has arrived by its type`, () =>
      Effect.gen(function* () {
        yield* EventPublisher.publish(Event.make({ eventType: "seek_tested", eventContext: { n: 1 } }))
        yield* EventPublisher.publish(Event.make({ eventType: "hide_tested", eventContext: { n: 2 } }))
        yield* Relay.drain
        const { complaints, page } = yield* visit("/events")
        yield* promise(async () => {
          await page.getByRole("link", { name: "hide_tested" }).waitFor()
          await page.getByLabel("Event type").fill("seek_tested")
          await page.getByRole("link", { name: "hide_tested" }).waitFor({ state: "detached" })
          await page.getByRole("link", { name: "seek_tested" }).waitFor()
          expect(page.url()).toContain("type=seek_tested")
        })
        expect(complaints).toEqual([])
      })
    )

    it.scoped(
      `The console, in ${CHROMIUM} says so when the relay does not answer any more, and recovers by itself`,
      () =>
        Effect.gen(function* () {
          const { page } = yield* visit("/")
          yield* promise(async () => {
            await page.getByRole("region", { name: "Postgres" }).getByText("reachable").waitFor()
            await page.route("**/api/**", (route) => route.abort("connectionrefused"))
            await page.getByText("The relay does not answer.", { exact: true }).waitFor()
            await page
              .getByText(/^As it was \d+ s ago/)
              .first()
              .waitFor()
            expect(await page.getByText("The relay does not answer").count()).toBe(2)
            expect(await page.getByRole("button", { name: "Pause delivery…" }).isDisabled()).toBe(true)
            await page.unroute("**/api/**")
            await page.getByText("The relay does not answer.", { exact: true }).waitFor({ state: "detached" })
          })
        })
    )

    it.scoped.runIf(isWhole)(
      `The console, in ${CHROMIUM} says so, too, when the relay does not refuse and does not answer either`,
      () =>
        Effect.gen(function* () {
          const { page } = yield* visit("/")
          yield* promise(async () => {
            await page.getByRole("region", { name: "Postgres" }).getByText("reachable").waitFor()
            await page.route("**/api/**", () => {})
            await page.getByText(/^No answer from .* within 6 seconds\./).waitFor()
            await page
              .getByText(/^As it was \d+ s ago/)
              .first()
              .waitFor()
          })
        })
    )

    it.scoped(
      `The console, in ${CHROMIUM} says whether all is well, and lets delivery be paused, also while there are no charts`,
      () =>
        Effect.gen(function* () {
          const { page } = yield* visit("/")
          yield* promise(async () => {
            await page.getByRole("button", { name: "Pause delivery…" }).click()
            await page.getByLabel("Why").fill("half a reas")
            await page.route("**/api/overview*", (route) => route.abort("connectionrefused"))
            await page.getByText("As it was", { exact: false }).first().waitFor()
            expect(await page.getByLabel("Why").inputValue()).toBe("half a reas")
            await page.keyboard.press("Escape")
            // Whoever changes their mind is where they were.
            expect(await page.evaluate("document.activeElement?.textContent")).toBe("Pause delivery…")
            await page.getByText("The charts cannot be loaded.").waitFor()
            expect(await page.getByRole("button", { name: "Pause delivery…" }).isEnabled()).toBe(true)
            expect(await page.getByText("The relay does not answer.", { exact: true }).count()).toBe(0)
          })
        })
    )

    it.scoped(`The console, in ${CHROMIUM} pauses delivery and resumes it with the keyboard alone`, () =>
      Effect.gen(function* () {
        const { relayPause } = yield* Operations.Operations
        const { complaints, page } = yield* visit("/")
        const press = async (...keys: ReadonlyArray<string>) => {
          for (const key of keys) await page.keyboard.press(key)
        }
        const focus = async (name: RegExp) => {
          const isThere = () =>
            page.evaluate("document.activeElement?.textContent ?? ''").then((text) => name.test(String(text)))
          for (let n = 0; n < 40 && !(await isThere()); n++) await press("Tab")
          expect(await isThere()).toBe(true)
        }
        yield* promise(async () => {
          await page.getByRole("button", { name: "Pause delivery…" }).waitFor()
          await focus(/^Skip to the content$/)
          await press("Enter")
          await focus(/^Pause delivery…$/)
          await press("Enter")
          await page.keyboard.type("ClickHouse is upgraded")
          await press("Tab")
          await page.keyboard.type("ada")
          await press("Enter")
          await page.getByText("Delivery is paused by ada: ClickHouse is upgraded", { exact: true }).waitFor()
        })
        expect(yield* relayPause).toMatchObject({ _tag: "Some", value: { pausedBy: "ada" } })
        yield* promise(async () => {
          const overview = page.url()
          await page.goto(new URL("/batches", overview).href)
          await page.getByText("Delivery is paused by ada: ClickHouse is upgraded").waitFor()
          await page.goto(overview)
          await page.getByRole("button", { name: "Resume delivery…" }).waitFor()
          await focus(/^Resume delivery…$/)
          await press("Enter", "Enter")
          await page.getByText("Delivery goes on.").waitFor()
        })
        expect(yield* relayPause).toMatchObject({ _tag: "None" })
        expect(complaints).toEqual([])
      })
    )

    it.scoped(
      `The console, in ${CHROMIUM} has no view that axe objects to, in light and in dark, that fetches from elsewhere, or that is wider than a phone`,
      () =>
        Effect.gen(function* () {
          yield* Relay.drain
          const { batchId, eventId, failureId } = yield* Failures.make([
            Event.make({ eventType: "axe_tested", eventContext: { n: 1 } }),
            Event.make({ eventType: "axe_tested", eventContext: { n: 2 } })
          ])
          const views = [
            ...["/", "/failures", `/failures/${failureId}`, "/batches", `/batches/${batchId}`, "/incidents"],
            ...["/events", `/events/${eventId}`, "/audit", "/nowhere"]
          ]
          const url = yield* Operator.start(Operator.config, { concurrency: 4 })
          const locked = yield* Operator.start(Operator.withToken)
          yield* Effect.forEach(
            isWhole ? (["light", "dark"] as const) : (["dark"] as const),
            (colorScheme) =>
              Effect.gen(function* () {
                const { complaints, page } = yield* open(yield* Browser, `${url}/`, { colorScheme })
                for (const view of [...views.map((path) => `${url}${path}`), `${locked}/`]) {
                  yield* promise(async () => {
                    await page.goto(view)
                    await page.waitForLoadState("networkidle")
                    await page.getByRole("heading", { level: 1 }).waitFor()
                    await page.locator(".loading").waitFor({ state: "detached" })
                    expect(await violations(page), `${view} in ${colorScheme}`).toEqual([])
                    await page.setViewportSize({ width: 360, height: 640 })
                    expect(await page.evaluate("document.documentElement.scrollWidth"), view).toBeLessThanOrEqual(360)
                    await page.setViewportSize({ width: 1280, height: 800 })
                  })
                }
                expect(complaints.filter((complaint) => !complaint.startsWith(`asked ${locked}/`))).toEqual([])
              }),
            { discard: true }
          )
        })
    )
  })
})

if (!isInstalled) {
  test.skip(`The console: there is no browser at ${CHROMIUM}. Install Debian's chromium, or name one with CHROMIUM`)
}
