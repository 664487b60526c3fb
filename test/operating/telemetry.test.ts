/** What arrives at a collector, and what does not: over real OTLP, from real processes. */
import { execFile } from "node:child_process"
import { promisify } from "node:util"
import * as SqlClient from "@effect/sql/SqlClient"
import { expect, it, layer } from "@effect/vitest"
import * as ConfigProvider from "effect/ConfigProvider"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import { inject } from "vitest"
import { ClickHouse } from "../../src/ClickHouse.ts"
import * as Config from "../../src/Config.ts"
import * as Event from "../../src/Event.ts"
import * as EventPublisher from "../../src/EventPublisher.ts"
import { version } from "../../src/internal/version.ts"
import * as Cli from "../support/cli.ts"
import * as Environment from "../support/environment.ts"
import { counts, eventLog } from "../support/eventLog.ts"
import { freePort } from "../support/listen.ts"
import { ask, TOKEN } from "../support/operator.ts"
import * as Otlp from "../support/otlp.ts"
import { drain } from "../support/relay.ts"
import { BOUND, until } from "../support/wait.ts"

type Variables = Readonly<Record<string, string>>

/** So that a test need not wait. */
const QUICK = {
  OTEL_BSP_SCHEDULE_DELAY: "100",
  OTEL_METRIC_EXPORT_INTERVAL: "200",
  OUTBOX_LINGER: "100 millis",
  LOG_FORMAT: "json"
}

const Published = Schema.parseJson(
  Schema.Struct({ eventId: Schema.String, traceId: Schema.String, spanId: Schema.String })
)

const Line = Schema.parseJson(
  Schema.Struct({
    level: Schema.String,
    message: Schema.String,
    trace_id: Schema.optional(Schema.String),
    span_id: Schema.optional(Schema.String)
  })
)

/** What telemetry says of itself, which it does not send. */
const COMPLAINT = "Telemetry: "

const linesOf = (text: string) => text.split("\n").filter((line) => line !== "")
const logOf = (stderr: string) => linesOf(stderr).map((line) => Schema.decodeSync(Line)(line))

/** Another program that publishes: two events in each request. */
const publishElsewhere = (variables: Variables, requests = 1, note = "") =>
  Effect.gen(function* () {
    const env = { PATH: process.env.PATH, ...(yield* Environment.Environment), ...QUICK, ...variables }
    const args = [inject("programs").publisher, String(requests), note]
    const { stderr, stdout } = yield* Effect.promise(() => promisify(execFile)(process.execPath, args, { env }))
    return { published: linesOf(stdout).map((line) => Schema.decodeSync(Published)(line)), log: logOf(stderr) }
  })

const startRelay = (variables: Variables) => Cli.start(["relay"], { variables: { ...QUICK, ...variables } })

const stop = (relay: Cli.Process) => Effect.zipRight(relay.signal("SIGTERM"), relay.ended)

const EVENT_SECRET = "the-pet-is-called-rex"

/** Beyond what JSON in ClickHouse holds. */
const refused = (note: string) => Event.make({ eventType: "scored", eventContext: { note, score: 1e30 } })
const refusedByView = Event.make({ eventType: "scored", eventContext: { note: EVENT_SECRET } })
const taken = Event.make({ eventType: "scored", eventContext: {} })

const delivered = (rows: number) => until(counts, (seen) => seen.rows === rows)

const bodies = (requests: ReadonlyArray<Otlp.Request>) => requests.map(({ body }) => body.toString("latin1")).join("\n")

const named = (spans: ReadonlyArray<Otlp.Span>, name: string) => spans.filter((span) => span.name === name)

/** The span and everything it is in, outwards. */
const upwards = (spans: ReadonlyArray<Otlp.Span>, span: Otlp.Span): ReadonlyArray<Otlp.Span> => {
  const parent = spans.find(({ spanId, traceId }) => spanId === span.parentSpanId && traceId === span.traceId)
  return parent === undefined ? [span] : [span, ...upwards(spans, parent)]
}

const place = ({ spanId, traceId }: { readonly spanId: string; readonly traceId: string }) => `${traceId}/${spanId}`

/** A relay that was idle, delivered what another program published, was refused an event, and was asked about it. */
class Story extends Context.Tag("test/Story")<
  Story,
  {
    readonly idle: ReadonlyArray<Otlp.Span>
    readonly whatClickHouseSaid: string
    readonly program: Effect.Effect.Success<ReturnType<typeof publishElsewhere>>
    readonly traceparents: ReadonlyMap<string, string>
    readonly relay: Cli.Ended
    readonly receiver: Otlp.Receiver
  }
>() {}

const story = Layer.scoped(
  Story,
  Effect.gen(function* () {
    const sql = yield* SqlClient.SqlClient
    const receiver = yield* Otlp.make()
    const port = yield* freePort
    const sending = { OTEL_EXPORTER_OTLP_ENDPOINT: receiver.url }
    const relay = yield* startRelay({ ...sending, OUTBOX_HTTP_PORT: String(port), OUTBOX_HTTP_TOKEN: TOKEN })
    yield* relay.said("The operator API listens")
    yield* relay.said("The relay has started")
    // Once it has looked whether there is something to do, and tidied up.
    yield* Effect.sleep("1 second")
    const before = yield* receiver.spans
    yield* Effect.sleep("2 seconds")
    const idle = (yield* receiver.spans).slice(before.length)

    const program = yield* publishElsewhere(sending, 3, EVENT_SECRET)
    yield* delivered(6)
    const refusedId = yield* Effect.withTracerEnabled(EventPublisher.publish(refused(EVENT_SECRET)), false)
    yield* relay.said("ClickHouse refuses an event")

    const url = `http://127.0.0.1:${port}`
    const headers = { authorization: `Bearer ${TOKEN}` }
    const read = yield* ask(url, "GET /api/failures/1", { headers })
    const body = JSON.stringify({ event_context: { note: EVENT_SECRET, score: 1 } })
    const corrected = yield* ask(url, `PATCH /api/failures/1/events/${refusedId}`, { body, headers })
    expect([read.status, corrected.status]).toEqual([200, 200])

    const [failure] = yield* sql<{ said: string }>`SELECT error_message AS said FROM outbox.batch_failure`
    const rows = yield* sql<{ id: string; traceparent: string | null }>`
      SELECT event_id::text AS id, traceparent FROM outbox.event
    `
    return {
      idle,
      whatClickHouseSaid: failure?.said ?? "",
      program,
      traceparents: new Map(rows.map(({ id, traceparent }) => [id, traceparent ?? ""])),
      relay: yield* stop(relay),
      receiver
    }
  })
)

layer(Layer.provideMerge(story, Environment.layer()), { excludeTestServices: true })("With a collector", (it) => {
  it.effect(
    "With a collector, a request's trace goes on in the delivery of what it published, and in ClickHouse's row",
    () =>
      Effect.gen(function* () {
        const { program, receiver, traceparents } = yield* Story
        const spans = yield* receiver.spans
        const requests = named(spans, "POST /users")
        const publications = named(spans, "EventPublisher.publish")
        expect(requests.map(({ kind }) => kind)).toEqual(Array(3).fill("SPAN_KIND_SERVER"))
        expect(publications.map(({ kind }) => kind)).toEqual(Array(6).fill("SPAN_KIND_PRODUCER"))

        const rows = new Map((yield* eventLog).map(({ eventId, traceId }) => [eventId, traceId]))
        expect(rows.size).toBe(6)
        for (const { eventId, spanId, traceId } of program.published) {
          expect(rows.get(eventId)).toBe(traceId)
          const [, ofTrace, ofSpan = "", flags] = traceparents.get(eventId)?.split("-") ?? []
          expect([ofTrace, flags]).toEqual([traceId, "01"])
          const [publication] = publications.filter((span) => span.spanId === ofSpan)
          expect(publication).toMatchObject({
            traceId,
            parentSpanId: spanId,
            attributes: { "event.type": "user_created" }
          })
          expect(publication && upwards(spans, publication).at(-1)).toMatchObject({
            name: "POST /users",
            parentSpanId: ""
          })
        }

        const deliveries = named(spans, "Relay.deliver")
        for (const { kind, parentSpanId } of deliveries) {
          expect({ kind, parentSpanId }).toEqual({ kind: "SPAN_KIND_CONSUMER", parentSpanId: "" })
        }
        // The refused event was published in no span.
        expect(deliveries.flatMap(({ links }) => links.map(place)).toSorted()).toEqual(
          publications.map(place).toSorted()
        )
        expect(requests.map(({ traceId }) => traceId)).not.toContain(deliveries[0]?.traceId)
      })
  )

  it.effect(
    "With a collector, a delivery is one trace of its own, which says what was delivered and what it took",
    () =>
      Effect.gen(function* () {
        const { receiver } = yield* Story
        const spans = yield* receiver.spans
        const deliveries = named(spans, "Relay.deliver")
        const inserts = named(spans, "ClickHouseSink.insert")
        expect(inserts.length).toBe(deliveries.length)
        for (const insert of inserts) {
          expect(insert).toMatchObject({ kind: "SPAN_KIND_CLIENT", attributes: { "db.system.name": "clickhouse" } })
          const delivery = upwards(spans, insert).at(-1)
          expect(delivery?.name).toBe("Relay.deliver")
          expect(delivery && insert.startTimeUnixNano >= delivery.startTimeUnixNano).toBe(true)
          expect(delivery && insert.endTimeUnixNano <= delivery.endTimeUnixNano).toBe(true)
        }
        for (const acknowledgement of named(spans, "OutboxStore.acknowledge")) {
          expect(upwards(spans, acknowledgement).at(-1)?.name).toBe("Relay.deliver")
        }
        const events = deliveries.map(({ attributes }) => Number(attributes["batch.event_count"]))
        expect(events.reduce((sum, count) => sum + count)).toBe(7)
        expect(new Set(deliveries.map(({ attributes }) => attributes["batch.id"])).size).toBe(deliveries.length)
        for (const { attributes, events, resource } of deliveries) {
          expect(attributes).toMatchObject({
            "batch.byte_count": expect.any(Number),
            "batch.attempt": 1,
            "batch.in_doubt": false
          })
          expect(events.map(({ name }) => name)).toEqual(
            attributes["batch.event_count"] === 1 ? [expect.any(String)] : ["Delivered a batch"]
          )
          expect(resource).toMatchObject({ "service.name": "clickhouse-outbox", "service.version": version })
          expect(resource["service.instance.id"]).toMatch(/\/\d+$/)
        }
        const statuses = deliveries.map(({ attributes, status }) => [attributes["batch.event_count"], status.code])
        expect(statuses.at(-1)).toEqual([1, "STATUS_CODE_OK"])
      })
  )

  it.effect(
    "With a collector, the log arrives as it is on standard error, each record in the span it was written in",
    () =>
      Effect.gen(function* () {
        const { program, receiver, relay } = yield* Story
        const records = yield* receiver.logs
        const spans = yield* receiver.spans
        const arrived = records.map(({ body, spanId, traceId }) => `${body} ${traceId} ${spanId}`)
        const written = [...program.log, ...logOf(relay.stderr)]
          // Said when everything has ended, telemetry too.
          .filter(({ message }) => message !== "The relay has stopped")
          // At five a second, metrics may come late on a busy machine.
          .filter(({ message }) => !message.startsWith(COMPLAINT))
          .map(({ message, span_id = "", trace_id = "" }) => `${message} ${trace_id} ${span_id}`)
        expect(written.length).toBeGreaterThan(5)
        expect(arrived.toSorted()).toEqual(written.toSorted())

        const known = new Set(spans.map(place))
        const inSpans = records.filter(({ spanId }) => spanId !== "")
        expect(inSpans.filter((record) => !known.has(place(record)))).toEqual([])

        const created = records.filter(({ body }) => body === "A user was created")
        expect(created.map(place).toSorted()).toEqual(named(spans, "POST /users").map(place).toSorted())
        expect(created[0]).toMatchObject({
          severityNumber: "SEVERITY_NUMBER_INFO",
          severityText: "INFO",
          attributes: { "user.count": 1, "user.plan": "free" },
          resource: { "service.name": "users", "service.version": version }
        })
        const [refusal] = records.filter(({ body }) => String(body).startsWith("ClickHouse refuses an event"))
        expect(refusal).toMatchObject({
          severityNumber: "SEVERITY_NUMBER_WARN",
          severityText: "WARN",
          attributes: { "error.code": 117, "error.class": "data", "failure.id": 1, "batch.event_count": 1 },
          resource: { "service.name": "clickhouse-outbox", "service.instance.id": expect.stringMatching(/\/\d+$/) }
        })
        const age = Date.now() - Number((refusal?.timeUnixNano ?? 0n) / 1_000_000n)
        expect(age).toBeGreaterThan(0)
        expect(age).toBeLessThan(600_000)
      })
  )

  it.effect("With a collector, metrics arrive under their names, and count what happened", () =>
    Effect.gen(function* () {
      const { receiver } = yield* Story
      const metrics = yield* receiver.metrics
      const deliveries = named(yield* receiver.spans, "Relay.deliver").length
      const values = (names: ReadonlyArray<string>) =>
        Object.fromEntries(names.map((name) => [name, Option.getOrNull(Otlp.valueOf(metrics, name))]))
      const expected = {
        outbox_events_published_total: 6,
        outbox_events_sealed_total: 7,
        outbox_events_delivered_total: 6,
        outbox_events_refused_total: 1,
        outbox_events_repeated_total: 0,
        outbox_retries_total: 0,
        outbox_workers: 2,
        outbox_workers_busy: 0
      }
      expect(values(Object.keys(expected))).toEqual(expected)
      for (const { name, sum } of metrics.filter(({ name }) => name.endsWith("_total"))) {
        expect({ name, isMonotonic: sum?.isMonotonic, temporality: sum?.aggregationTemporality }).toEqual({
          name,
          isMonotonic: true,
          temporality: "AGGREGATION_TEMPORALITY_CUMULATIVE"
        })
      }
      const histogramOf = (name: string) => {
        const ofRelay = metrics.filter(
          ({ resource, ...metric }) => metric.name === name && resource["service.name"] === "clickhouse-outbox"
        )
        expect(ofRelay.length).toBe(1)
        return ofRelay[0]?.histogram?.dataPoints[0]
      }
      expect(histogramOf("outbox_batch_events")).toMatchObject({ count: deliveries, sum: 7 })
      const waited = histogramOf("outbox_publish_to_delivered_seconds")
      expect(waited?.count).toBe(deliveries - 1)
      expect(waited?.bucketCounts.length).toBe((waited?.explicitBounds.length ?? 0) + 1)
      expect(waited?.bucketCounts.reduce((sum, count) => sum + count)).toBe(deliveries - 1)
      // Seconds, not milliseconds.
      expect(waited?.sum).toBeGreaterThan(0.05)
      expect(waited?.sum).toBeLessThan(600)
      for (const { description, name } of metrics.filter(({ name }) => name.startsWith("outbox_"))) {
        expect([name, description]).toEqual([name, expect.stringMatching(/^\S.{10,}/)])
      }
    })
  )

  it.effect("With a collector, an idle relay sends no span, but its metrics", () =>
    Effect.gen(function* () {
      const { idle, receiver } = yield* Story
      expect(idle.map(({ name }) => name)).toEqual([])
      const requests = (yield* receiver.requests).filter(({ path }) => path === "/v1/metrics")
      // Five a second, for more than three seconds.
      expect(requests.length).toBeGreaterThan(10)
    })
  )

  it.effect(
    "With a collector, no event's content arrives, not even of an event that was refused, nor the operators' token",
    () =>
      Effect.gen(function* () {
        const { receiver, relay, whatClickHouseSaid } = yield* Story
        expect(whatClickHouseSaid).toContain(EVENT_SECRET)
        const sent = bodies(yield* receiver.requests)
        // What is there is found.
        for (const there of ["Relay.deliver", "BatchFailures.correct", "user_created", "ClickHouse refuses an event"])
          expect(sent).toContain(there)
        for (const secret of [EVENT_SECRET, TOKEN, "1000000000000000000000000000000"]) {
          expect(sent).not.toContain(secret)
          expect(relay.stderr).not.toContain(secret)
        }
      })
  )
})

layer(Environment.layer(), { excludeTestServices: true })("A program", (it) => {
  it.scoped("A program is named and described by the environment, which also says what is sent along and how", () =>
    Effect.gen(function* () {
      const receiver = yield* Otlp.make({ "/base/v1/traces": "traces", "/base/v1/logs": "logs", "/here": "metrics" })
      yield* publishElsewhere({
        OTEL_EXPORTER_OTLP_ENDPOINT: `${receiver.url}/base/`,
        // A signal's own endpoint is taken as it is.
        OTEL_EXPORTER_OTLP_METRICS_ENDPOINT: `${receiver.url}/here`,
        OTEL_EXPORTER_OTLP_HEADERS: "authorization=Bearer%20s3cret,x-scope-orgid=shop",
        OTEL_EXPORTER_OTLP_COMPRESSION: "gzip",
        OTEL_SERVICE_NAME: "shop",
        OTEL_RESOURCE_ATTRIBUTES:
          "service.name=not-this,service.instance.id=shop-1,deployment.environment.name=staging,team=a%20b"
      })
      const requests = yield* receiver.requests
      expect(new Set(requests.map(({ path }) => path))).toEqual(new Set(["/base/v1/traces", "/base/v1/logs", "/here"]))
      for (const { headers } of requests) {
        expect(headers).toMatchObject({
          authorization: "Bearer s3cret",
          "x-scope-orgid": "shop",
          "content-encoding": "gzip"
        })
      }
      const items = [...(yield* receiver.spans), ...(yield* receiver.logs), ...(yield* receiver.metrics)]
      expect(items.length).toBeGreaterThan(5)
      for (const { resource } of items) {
        expect(resource).toMatchObject({
          "service.name": "shop",
          "service.version": version,
          "service.instance.id": "shop-1",
          "deployment.environment.name": "staging",
          team: "a b"
        })
      }
    })
  )

  it.scoped("A program sends no span that its sampler drops, and yet its events and its log name their trace", () =>
    Effect.gen(function* () {
      const receiver = yield* Otlp.make()
      const { published } = yield* publishElsewhere({
        OTEL_EXPORTER_OTLP_ENDPOINT: receiver.url,
        OTEL_TRACES_SAMPLER: "always_off"
      })
      expect(published.length).toBe(2)
      expect(yield* receiver.spans).toEqual([])
      expect((yield* receiver.logs).map(({ traceId }) => traceId)).toEqual([published[0]?.traceId])
      expect((yield* receiver.metrics).length).toBeGreaterThan(0)

      const sql = yield* SqlClient.SqlClient
      const ids = published.map(({ eventId }) => eventId)
      yield* drain
      const arrived = (yield* eventLog).filter(({ eventId }) => ids.includes(eventId))
      expect(arrived.length).toBe(2)
      const stored = yield* sql<{ traceparent: string }>`
        SELECT traceparent FROM outbox.event WHERE event_id = ANY (${ids}::uuid[])
      `
      for (const { traceparent } of stored) {
        expect(traceparent).toMatch(new RegExp(`^00-${published[0]?.traceId}-[0-9a-f]{16}-00$`))
      }
      for (const { traceId } of arrived) expect(traceId).toBe(published[0]?.traceId)
    })
  )

  it.scoped("A program sends whole traces, or nothing of them, where a share of them is sampled", () =>
    Effect.gen(function* () {
      const receiver = yield* Otlp.make()
      const { published } = yield* publishElsewhere(
        {
          OTEL_EXPORTER_OTLP_ENDPOINT: receiver.url,
          OTEL_TRACES_SAMPLER: "parentbased_traceidratio",
          OTEL_TRACES_SAMPLER_ARG: "0.5"
        },
        60
      )
      const sql = yield* SqlClient.SqlClient
      const ids = published.map(({ eventId }) => eventId)
      const stored = yield* sql<{ traceparent: string }>`
        SELECT traceparent FROM outbox.event WHERE event_id = ANY (${ids}::uuid[])
      `
      const sampled = stored
        .map(({ traceparent }) => traceparent.split("-"))
        .filter(([, , , flags]) => flags === "01")
        .map(([, traceId = "", spanId = ""]) => place({ traceId, spanId }))
      const spans = yield* receiver.spans
      expect(named(spans, "EventPublisher.publish").map(place).toSorted()).toEqual(sampled.toSorted())
      const requests = named(spans, "POST /users").length
      expect(requests).toBe(sampled.length / 2)
      // All or none of 60 would be sampled once in 10^17 runs.
      expect(requests).toBeGreaterThan(0)
      expect(requests).toBeLessThan(60)
    })
  )

  it.scoped("A program sends only what there is an endpoint for", () =>
    Effect.gen(function* () {
      const receiver = yield* Otlp.make()
      yield* publishElsewhere({ OTEL_EXPORTER_OTLP_LOGS_ENDPOINT: `${receiver.url}/v1/logs` })
      expect((yield* receiver.requests).map(({ path }) => path)).toEqual(["/v1/logs"])
    })
  )

  const sent: ReadonlyArray<readonly [variables: Variables, signals: ReadonlyArray<string>]> = [
    [{ OTEL_TRACES_EXPORTER: "none", OTEL_METRICS_EXPORTER: "none" }, ["/v1/logs"]],
    [{ OTEL_LOGS_EXPORTER: "none" }, ["/v1/metrics", "/v1/traces"]],
    [{ OTEL_SDK_DISABLED: "true" }, []]
  ]
  for (const [variables, signals] of sent) {
    const settings = Object.entries(variables).map(([name, value]) => `${name}=${value}`)
    it.scoped(
      `A program sends ${signals.length === 0 ? "nothing" : `only ${signals.join(" and ")}`} with ${settings.join(" and ")}`,
      () =>
        Effect.gen(function* () {
          const receiver = yield* Otlp.make()
          yield* publishElsewhere({ OTEL_EXPORTER_OTLP_ENDPOINT: receiver.url, ...variables })
          const paths = (yield* receiver.requests).map(({ path }) => path)
          expect([...new Set(paths)].toSorted()).toEqual(signals)
          expect((yield* receiver.connections) === 0).toBe(signals.length === 0)
        })
    )
  }
})

const complaintsIn = (stderr: string) =>
  logOf(stderr)
    .map(({ message }) => message)
    .filter((message) => message.startsWith(COMPLAINT))

layer(Environment.layer(), { excludeTestServices: true })("A relay whose collector", (it) => {
  for (const [what, behaviour, timeout] of [
    ["refuses", "refuse", "500"],
    ["hangs up", "hang up", "500"],
    // A relay does not wait for an answer for as long as this.
    ["says nothing", "say nothing", "600000"]
  ] as const) {
    it.scoped(`A relay whose collector ${what} delivers all the same, and ends in time`, () =>
      Effect.gen(function* () {
        const before = (yield* counts).rows
        const receiver = yield* Otlp.make()
        yield* receiver.behave(behaviour)
        const relay = yield* startRelay({
          OTEL_EXPORTER_OTLP_ENDPOINT: receiver.url,
          OTEL_EXPORTER_OTLP_TIMEOUT: timeout
        })
        yield* EventPublisher.publish(taken)
        yield* delivered(before + 1)
        yield* relay.said(COMPLAINT)
        yield* Effect.sleep("500 millis")
        yield* EventPublisher.publish(taken)
        yield* delivered(before + 2)
        const { code, stderr } = yield* Effect.timeout(stop(relay), BOUND)
        expect(code).toBe(0)
        const complaints = complaintsIn(stderr)
        expect(complaints.length).toBeGreaterThan(0)
        expect(new Set(complaints).size).toBe(complaints.length)
        expect(yield* receiver.requests).toEqual([])
        expect(yield* receiver.asked).toBeGreaterThan(2)
      })
    )
  }

  it.scoped("A relay whose collector is not there delivers all the same, and says so once", () =>
    Effect.gen(function* () {
      const before = (yield* counts).rows
      const port = yield* freePort
      const relay = yield* startRelay({
        OTEL_EXPORTER_OTLP_TRACES_ENDPOINT: `http://127.0.0.1:${port}/v1/traces`,
        // Shorter than the wait before it is tried again.
        OTEL_EXPORTER_OTLP_TIMEOUT: "500"
      })
      for (const n of [1, 2, 3]) {
        yield* EventPublisher.publish(taken)
        yield* delivered(before + n)
        yield* relay.said(COMPLAINT)
        yield* Effect.sleep("200 millis")
      }
      const { code, stderr } = yield* stop(relay)
      expect(code).toBe(0)
      expect(complaintsIn(stderr)).toEqual([expect.stringContaining("ECONNREFUSED")])
    })
  )

  it.scoped("A relay whose collector is there gets what is left when the relay is stopped", () =>
    Effect.gen(function* () {
      const before = (yield* counts).rows
      const receiver = yield* Otlp.make()
      const relay = yield* startRelay({
        OTEL_EXPORTER_OTLP_ENDPOINT: receiver.url,
        OTEL_BSP_SCHEDULE_DELAY: "600000",
        OTEL_METRIC_EXPORT_INTERVAL: "600000"
      })
      yield* EventPublisher.publish(taken)
      yield* relay.said("Delivered a batch")
      yield* delivered(before + 1)
      // Its log goes once a second: OpenTelemetry's SDK for logs does not read OTEL_BLRP_SCHEDULE_DELAY.
      expect((yield* receiver.requests).filter(({ path }) => path !== "/v1/logs")).toEqual([])
      const { code } = yield* stop(relay)
      expect(code).toBe(0)
      expect(named(yield* receiver.spans, "Relay.deliver").length).toBe(1)
      expect((yield* receiver.logs).map(({ body }) => body)).toContain("Delivered a batch")
      expect(Otlp.valueOf(yield* receiver.metrics, "outbox_events_delivered_total")).toEqual(Option.some(1))
    })
  )
})

layer(Environment.layer(), { excludeTestServices: true })("A secret", (it) => {
  const PASSWORD = "hunter2-is-secret"

  /** What a relay sends and says until it has said this. */
  const told = (variables: Variables, said: string) =>
    Effect.gen(function* () {
      const receiver = yield* Otlp.make()
      const relay = yield* startRelay({ OTEL_EXPORTER_OTLP_ENDPOINT: receiver.url, ...variables })
      yield* relay.said(said)
      const { stderr } = yield* stop(relay)
      return { sent: bodies(yield* receiver.requests), stderr }
    })

  it.scoped(
    "A secret in an event that ClickHouse quotes in an error of a view is in nothing that is sent or logged",
    () =>
      Effect.gen(function* () {
        const clickHouse = yield* ClickHouse
        yield* clickHouse.command(`
        CREATE MATERIALIZED VIEW scores ENGINE = MergeTree ORDER BY () AS
        SELECT toUInt64(event_context.note::String) AS score FROM event_log
      `)
        yield* EventPublisher.publish(refusedByView)
        const { sent, stderr } = yield* told(
          { OUTBOX_INCIDENT_AFTER: "1 millis", OUTBOX_RETRY_CAP: "300 millis" },
          "Incident 1"
        )
        const sql = yield* SqlClient.SqlClient
        // There it is.
        expect(yield* sql`SELECT error_message LIKE ${`%${EVENT_SECRET}%`} AS quoted FROM outbox.incident`).toEqual([
          { quoted: true }
        ])
        expect(sent).toContain("A batch was not delivered")
        expect(`${sent}${stderr}`).not.toContain(EVENT_SECRET)
      }).pipe(Environment.fresh())
  )

  it.scoped("A secret in the address of a Postgres that is away is in nothing that is sent or logged", () =>
    Effect.gen(function* () {
      const DATABASE_URL = `postgres://ada:${PASSWORD}@127.0.0.1:1/app`
      const said = "The relay waits for Postgres"
      const { sent, stderr } = yield* told({ DATABASE_URL }, said)
      expect(sent).toContain(said)
      expect(`${sent}${stderr}`).not.toContain(PASSWORD)
    })
  )

  for (const [what, where, said] of [
    ["is away", () => ({ CLICKHOUSE_URL: `http://ada:${PASSWORD}@127.0.0.1:1` }), "A batch was not delivered"],
    [
      "does not take it",
      (url: string) => ({ CLICKHOUSE_URL: url, CLICKHOUSE_USER: "ada", CLICKHOUSE_PASSWORD: PASSWORD }),
      "Code: 516"
    ]
  ] as const) {
    it.scoped(`A secret to show to a ClickHouse that ${what} is in nothing that is sent or logged`, () =>
      Effect.gen(function* () {
        const { CLICKHOUSE_URL = "" } = yield* Environment.Environment
        yield* EventPublisher.publish(taken)
        const { sent, stderr } = yield* told(where(CLICKHOUSE_URL), said)
        expect(sent).toContain(said)
        for (const secret of [PASSWORD, Buffer.from(`ada:${PASSWORD}`).toString("base64")])
          expect(`${sent}${stderr}`).not.toContain(secret)
      }).pipe(Environment.fresh())
    )
  }
})

/** Says at its end what the process has loaded, and where it has connected to. */
const WATCH = `data:text/javascript,${encodeURIComponent(`
  import { createRequire } from "node:module"
  import { Socket } from "node:net"
  import { writeSync } from "node:fs"
  const { cache } = createRequire("file:///watch.js")
  const connected = []
  const { connect } = Socket.prototype
  Socket.prototype.connect = function (...args) {
    const [options] = Array.isArray(args[0]) ? args[0] : args
    const port = typeof options === "object" ? options.port : options
    // Not what tsx talks to itself over.
    if (port !== undefined) connected.push(String(port))
    return connect.apply(this, args)
  }
  process.on("exit", () => writeSync(1, JSON.stringify({ loaded: Object.keys(cache), connected }) + "\\n"))
`)}`

const Watched = Schema.parseJson(
  Schema.Struct({ loaded: Schema.Array(Schema.String), connected: Schema.Array(Schema.String) })
)

layer(Environment.layer(), { excludeTestServices: true })("Without an endpoint", (it) => {
  const SDK = /@opentelemetry\/(sdk|exporter|otlp|resources)/

  const watch = (args: ReadonlyArray<string>, variables: Variables = {}, stdin = "") =>
    Effect.gen(function* () {
      const { DATABASE_URL = "", CLICKHOUSE_URL = "" } = yield* Environment.Environment
      const ended = yield* Cli.run(args, { variables, stdin, node: ["--import", WATCH] })
      expect({ args, code: ended.code, stderr: ended.stderr }).toMatchObject({ args, code: 0 })
      const watched = Schema.decodeSync(Watched)(linesOf(ended.stdout).at(-1) ?? "")
      const databases = [DATABASE_URL, CLICKHOUSE_URL].map((url) => new URL(url).port)
      return {
        sdk: watched.loaded.filter((path) => SDK.test(path)),
        elsewhere: watched.connected.filter((port) => !databases.includes(port)),
        connections: watched.connected.length
      }
    })

  it.effect(
    "Without an endpoint, nothing of OpenTelemetry's SDK is loaded, and nobody but the databases is connected to",
    () =>
      Effect.gen(function* () {
        const line = JSON.stringify({ event_type: "user_created", event_context: {} })
        for (const [args, stdin] of [
          [["publish", "-"], `${line}\n`],
          [["relay", "--until-empty"], ""]
        ] as const) {
          const { connections, elsewhere, sdk } = yield* watch(args, {}, stdin)
          expect({ args, elsewhere, sdk }).toEqual({ args, elsewhere: [], sdk: [] })
          expect(connections).toBeGreaterThan(0)
        }
      })
  )

  it.scoped("Without an endpoint, it is otherwise than with one", () =>
    Effect.gen(function* () {
      const receiver = yield* Otlp.make()
      const { elsewhere, sdk } = yield* watch(["relay", "--until-empty"], { OTEL_EXPORTER_OTLP_ENDPOINT: receiver.url })
      expect(sdk.length).toBeGreaterThan(20)
      expect(new Set(elsewhere)).toEqual(new Set([new URL(receiver.url).port]))
    })
  )
})

{
  const SENT = { OTEL_EXPORTER_OTLP_ENDPOINT: "http://collector:4318" }

  const wrong: ReadonlyArray<readonly [name: string, value: string, must: string]> = [
    ["OTEL_EXPORTER_OTLP_ENDPOINT", "collector:4318", "must be a URL that starts with http"],
    ["OTEL_EXPORTER_OTLP_LOGS_ENDPOINT", "not a url", "must be a URL that starts with http"],
    ["OTEL_EXPORTER_OTLP_PROTOCOL", "grpc", "must be http/protobuf"],
    ["OTEL_EXPORTER_OTLP_METRICS_PROTOCOL", "http/json", "must be http/protobuf"],
    ["OTEL_METRIC_EXPORT_INTERVAL", "soon", "must be a number of milliseconds"],
    ["OTEL_METRIC_EXPORT_INTERVAL", "0", "must be a number of milliseconds"]
  ]

  const read = (variables: Variables) =>
    Effect.withConfigProvider(Config.telemetry, ConfigProvider.fromMap(new Map(Object.entries(variables))))

  for (const [name, value, must] of wrong) {
    it.effect(`A wrong setting of telemetry is told by its name: ${name}=${value}`, () =>
      Effect.gen(function* () {
        const error = yield* Effect.flip(read({ ...SENT, [name]: value }))
        expect(Config.explain(error)).toMatch(new RegExp(`^${name}: ${must}`))
      })
    )
  }

  const NOTHING = { traces: false, metrics: false, logs: false, ignored: [] }

  it.effect(
    "A wrong setting of telemetry is none where nothing is sent, as such variables are set for other programs too",
    () =>
      Effect.gen(function* () {
        const foreign = { OTEL_EXPORTER_OTLP_PROTOCOL: "grpc", OTEL_TRACES_SAMPLER: "nonsense" }
        expect(yield* read(foreign)).toMatchObject(NOTHING)
        expect(yield* read({ ...SENT, ...foreign, OTEL_SDK_DISABLED: "TRUE" })).toMatchObject(NOTHING)
      })
  )

  it.effect(
    "A wrong setting of telemetry is not followed and told in the log where an exporter is not there: that signal is not sent",
    () =>
      Effect.gen(function* () {
        expect(yield* read({ ...SENT, OTEL_METRICS_EXPORTER: "prometheus" })).toMatchObject({
          traces: true,
          metrics: false,
          logs: true,
          ignored: ["OTEL_METRICS_EXPORTER is prometheus, and only otlp is supported"]
        })
      })
  )

  it.effect("A wrong setting of telemetry is none where the variable is empty, as OpenTelemetry has it", () =>
    Effect.gen(function* () {
      const names = wrong.map(([name]) => [name, ""])
      const { logs, metrics, metricsInterval, traces } = yield* read(Object.fromEntries(names))
      expect({ logs, metrics, traces, seconds: Duration.toSeconds(metricsInterval) }).toEqual({
        logs: false,
        metrics: false,
        traces: false,
        seconds: 60
      })
    })
  )
}

layer(Environment.layer(), { excludeTestServices: true })("A relay with a wrong setting of telemetry", (it) => {
  it.effect("A relay with a wrong setting of telemetry does not start, and says which", () =>
    Effect.gen(function* () {
      const { code, stderr, stdout } = yield* Cli.run(["relay"], {
        variables: { OTEL_EXPORTER_OTLP_ENDPOINT: "collector:4318" }
      })
      expect({ code, stdout }).toEqual({ code: 1, stdout: "" })
      expect(stderr).toMatch(/^OTEL_EXPORTER_OTLP_ENDPOINT: must be a URL that starts with http:\/\/ or https:\/\/\n$/)
    })
  )
})
