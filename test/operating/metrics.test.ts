/** Metrics, the dashboard, the alert rules and docs/telemetry.md: that they speak of the same, and say what is so. */
import { readdirSync, readFileSync } from "node:fs"
import { expect, it, layer } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Metric from "effect/Metric"
import * as Option from "effect/Option"
import * as Predicate from "effect/Predicate"
import * as Event from "../../src/Event.ts"
import * as EventPublisher from "../../src/EventPublisher.ts"
import { version } from "../../src/internal/version.ts"
import * as Metrics from "../../src/Metrics.ts"
import { OutboxStore } from "../../src/OutboxStore.ts"
import * as Cli from "../support/cli.ts"
import * as Environment from "../support/environment.ts"
import { freePort } from "../support/listen.ts"
import * as Prometheus from "../support/prometheus.ts"
import { until } from "../support/wait.ts"

const read = (path: string) => readFileSync(new URL(`../../${path}`, import.meta.url), "utf8")

const docs = read("docs/telemetry.md")

interface Known {
  readonly name: string
  readonly type: string
  readonly labels: ReadonlyArray<string>
  readonly description: string
}

const isMetric = (value: unknown): value is { readonly register: () => unknown } =>
  Predicate.hasProperty(value, Metric.MetricTypeId)

/** A metric tells its name only to the registry. One that has a label is a function that takes its value. */
const registerAll = () => {
  for (const exported of Object.values(Metrics)) {
    if (!Predicate.isFunction(exported)) continue
    const metric: unknown = isMetric(exported) ? exported : Reflect.apply(exported, undefined, ["any"])
    // What takes the time of something is neither.
    if (isMetric(metric)) metric.register()
  }
}

const TYPES: Readonly<Record<string, string>> = {
  CounterKeyType: "counter",
  GaugeKeyType: "gauge",
  HistogramKeyType: "histogram"
}

const known: ReadonlyMap<string, Known> = (() => {
  registerAll()
  const metrics = Metric.unsafeSnapshot().map(({ metricKey: { description, keyType, name, tags } }) => ({
    name,
    type: TYPES[Object(keyType).constructor.name] ?? "unknown",
    labels: tags.map(({ key }) => key).toSorted(),
    description: Option.getOrElse(description, () => "")
  }))
  // The runtime counts its fibers in the same registry.
  return new Map(metrics.filter(({ name }) => !name.startsWith("effect_")).map((metric) => [metric.name, metric]))
})()

/** The metric that a series of Prometheus is of. */
const metricOf = (series: string): Known | undefined => {
  const direct = known.get(series)
  if (direct !== undefined) return direct.type === "histogram" ? undefined : direct
  const histogram = known.get(series.replace(/_(bucket|sum|count)$/, ""))
  return histogram?.type === "histogram" ? histogram : undefined
}

/** What Prometheus and Grafana add to a series themselves. */
const ADDED = ["job", "instance", "alertname", "alertstate", "severity"]

const labelsOf = (series: string): ReadonlyArray<string> => [
  // An alert has the labels of what it was raised by.
  ...(series === "ALERTS" ? [...known.values()].flatMap(({ labels }) => labels) : (metricOf(series)?.labels ?? [])),
  ...(series.endsWith("_bucket") ? ["le"] : []),
  ...ADDED
]

const matches = (text: string, pattern: RegExp) => [...text.matchAll(pattern)].map(([, first = ""]) => first)

const seriesIn = (text: string) => matches(text, /\b(outbox_\w+)/g)

/** What is wrong with the names in an expression, or in text that has expressions and templates in it. */
const mistakes = (text: string): ReadonlyArray<string> => {
  const series = seriesIn(text)
  const unknown = series.filter((name) => metricOf(name) === undefined)
  const matchers = [...text.matchAll(/\b(outbox_\w+|ALERTS|up)\{([^}]*)\}/g)].flatMap(([, name = "", inside = ""]) =>
    matches(inside, /(\w+)\s*(?:=~|!~|!=|=)/g)
      .filter((label) => !labelsOf(name).includes(label))
      .map((label) => `${name} has no label ${label}`)
  )
  const any = [...series.flatMap(labelsOf), ...ADDED]
  const grouped = matches(text, /\b(?:by|on|without|ignoring)\s*\(([^)]*)\)/g).flatMap((list) => list.split(/,\s*/))
  const templated = [...matches(text, /\$labels\.(\w+)/g), ...matches(text, /\{\{\s*(\w+)\s*\}\}/g)]
  const strangers = [...grouped, ...templated].filter((label) => !any.includes(label))
  return [...unknown, ...matchers, ...strangers]
}

const alerts = Prometheus.rules
  .split(/^ +- alert: /m)
  .slice(1)
  .map((text) => ({ name: text.split("\n", 1)[0] ?? "", text }))

/** As GitHub makes them of headings. */
const anchorsOf = (path: string) =>
  matches(read(path), /^#+ (.+)$/gm).map((heading) =>
    heading
      .toLowerCase()
      .replaceAll(/[^\w\- ]/g, "")
      .replaceAll(" ", "-")
  )

/** Rows of the tables under a heading, without their own heads. */
const tableUnder = (heading: string) => {
  const [, section = ""] = docs.split(new RegExp(`^#+ ${heading}\n`, "m"))
  return section
    .split(/^#/m, 1)
    .flatMap((text) => text.split("\n"))
    .filter((line) => line.startsWith("| `"))
    .map((line) => line.slice(2, -2).split(" | "))
}

const code = (cell: string) => matches(cell, /`([^`]+)`/g)

const sources = readdirSync(new URL("../../src/", import.meta.url), { recursive: true, encoding: "utf8" })
  .filter((path) => path.endsWith(".ts") && !/^(embedded|testing)/.test(path))
  .map((path) => read(`src/${path}`).replaceAll(/^\s*\*.*$/gm, ""))

/** Spans that Effect's own libraries make. */
const OF_LIBRARIES = /^(sql\.execute|http\.server .+)$/

const ruleTests = readFileSync(Prometheus.RULE_TESTS, "utf8")

const JOB = "orders"

/** What programs that publish count. */
const PUBLISHED = "outbox_events_published_total"

/** A relay in a process of its own that has delivered `good` events and was refused one, and what it listens on. */
const relayThatDelivered = (good: number) =>
  Effect.gen(function* () {
    const port = yield* freePort
    const variables = { OUTBOX_HTTP_PORT: String(port), OUTBOX_LINGER: "100 millis" }
    const relay = yield* Cli.start(["relay"], { variables })
    const event = (context: Event.JsonObject) => Event.make({ eventType: "scored", eventContext: context })
    yield* EventPublisher.publishAll([
      ...Array.from({ length: good }, (_, n) => event({ n })),
      // Beyond what JSON in ClickHouse holds.
      event({ n: 1e30 })
    ])
    yield* relay.said("The operator API listens on")
    yield* relay.said("ClickHouse refuses an event")
    return port
  })

const metricsOf = (port: number) =>
  Effect.promise(async () => {
    const response = await fetch(`http://127.0.0.1:${port}/metrics`)
    return response.text()
  })

it("What is measured has a name as Prometheus wants it, a type and a description", () => {
  expect(known.size).toBeGreaterThan(30)
  for (const { description, name, type } of known.values()) {
    expect(name).toMatch(/^outbox_[a-z_]+$/)
    expect([name, name.endsWith("_total")]).toEqual([name, type === "counter"])
    expect(Object.values(TYPES)).toContain(type)
    expect([name, description]).toEqual([name, expect.stringMatching(/^\S.{10,}[^.]$/)])
  }
})

it("What is measured is listed in docs/telemetry.md with its type, its labels and its meaning, and nothing else is", () => {
  const listed = tableUnder("Metrics").map(([name = "", type, labels = "", meaning = ""]) => {
    const said = meaning.replaceAll("`", "")
    const description = known.get(code(name).join())?.description ?? "none"
    // The docs may say more.
    const isSame = said === description || said.startsWith(`${description}.`) || said.startsWith(`${description};`)
    return {
      name: code(name).join(),
      type,
      labels: code(labels).toSorted(),
      description: isSame ? description : said
    }
  })
  const byName = (a: { readonly name: string }, b: { readonly name: string }) => (a.name < b.name ? -1 : 1)
  expect(listed.toSorted(byName)).toEqual([...known.values()].toSorted(byName))
})

it("What is measured has every span in docs/telemetry.md that the code makes, and no other", () => {
  const made = sources.flatMap((source) =>
    matches(source, /(?:(?:withSpan|tracer\.span)\([^"`]*|Effect\.fn\()["`]([^"`]+)["`]/g)
  )
  const listed = tableUnder("Spans").flatMap(([name = ""]) => code(name))
  expect([...new Set(made)].toSorted()).toEqual(listed.filter((name) => !OF_LIBRARIES.test(name)).toSorted())
})

it("What is measured has every field of the log in docs/telemetry.md that the code writes, and no other", () => {
  const written = sources.flatMap((source) =>
    matches(source, /(?:annotateLogs\(|\s)"((?:batch|error|event|failure|incident|retry)\.(?!json")[a-z_]+)"(?::|,)/g)
  )
  const listed = tableUnder("Log fields").flatMap(([name = ""]) => code(name))
  const dotted = listed.filter((name) => name.includes("."))
  expect(written.length).toBeGreaterThan(15)
  expect(dotted.filter((field) => !written.includes(field))).toEqual([])
  expect([...new Set(written)].filter((field) => !listed.includes(field) && !docs.includes(`\`${field}\``))).toEqual([])
})

{
  const panels = Prometheus.dashboard.panels.filter(({ type }) => type !== "row")

  it("The dashboard asks for metrics and labels that there are", () => {
    const { annotations, templating } = Prometheus.dashboard
    const asked = [
      ...panels.flatMap(({ targets }) =>
        targets.flatMap(({ expr, legendFormat }) => [expr, `${expr} ${legendFormat}`])
      ),
      ...annotations.list.flatMap(({ expr = [] }) => expr),
      ...templating.list.flatMap(({ definition = [] }) => definition)
    ]
    expect(asked.flatMap(seriesIn).length).toBeGreaterThan(40)
    expect(asked.flatMap(mistakes)).toEqual([])
  })

  it("The dashboard shows every metric there is", () => {
    const shown = panels.flatMap(({ targets }) => targets.flatMap(({ expr }) => seriesIn(expr).map(metricOf)))
    expect([...known.values()].filter((metric) => !shown.includes(metric)).map(({ name }) => name)).toEqual([])
  })

  it("The dashboard uses no variable that it does not have, and leaves none unused", () => {
    const variables = Prometheus.dashboard.templating.list.map(({ name }) => `$${name}`)
    const used = panels.flatMap(({ targets }) => targets.flatMap(({ expr }) => expr.match(/\$\w+/g) ?? []))
    expect(new Set([...used, "$datasource"])).toEqual(new Set([...variables, "$__rate_interval"]))
  })

  it("The dashboard says on each panel what is normal, and has none on top of another", () => {
    const { panels: all } = Prometheus.dashboard
    expect(panels.filter(({ description = "" }) => description.length < 30).map(({ title }) => title)).toEqual([])
    expect(new Set(all.map(({ id }) => id)).size).toBe(all.length)
    const cells = all.flatMap(({ gridPos: { h, w, x, y } }) =>
      Array.from({ length: w * h }, (_, n) => `${x + (n % w)},${y + Math.floor(n / w)}`)
    )
    expect(new Set(cells).size).toBe(cells.length)
    expect(Math.max(...all.map(({ gridPos: { w, x } }) => x + w))).toBe(24)
  })
}

it("The alert rules ask for metrics and labels that there are", () => {
  expect(alerts.length).toBeGreaterThan(10)
  for (const { name, text } of alerts) expect([name, mistakes(text)]).toEqual([name, []])
  expect(mistakes(ruleTests)).toEqual([])
})

it("The alert rules say how bad it is, what to do, and where more is written, which is there", () => {
  for (const { name, text } of alerts) {
    expect([name, text]).toEqual([name, expect.stringMatching(/severity: (critical|warning|info)\n/)])
    expect([name, text]).toEqual([name, expect.stringMatching(/summary: .{20,}\n +description: >-\n.{40,}/)])
    const [, path = "", anchor = ""] = /runbook: (docs\/\w+\.md)#(\S+)\n/.exec(text) ?? []
    expect([name, anchorsOf(path)]).toEqual([name, expect.arrayContaining([anchor])])
  }
})

it("The alert rules are listed in docs/telemetry.md with their severity, and no other is", () => {
  const listed = tableUnder("Alerts").map(([name = "", severity]) => [code(name).join(), severity])
  const written = alerts.map(({ name, text }) => [name, /severity: (\w+)/.exec(text)?.[1]])
  expect(listed).toEqual(written)
})

it.effect("The alert rules are rules that Prometheus takes", (context) =>
  Effect.gen(function* () {
    yield* Prometheus.need("promtool", context)
    const { code, said } = yield* Prometheus.promtool(["check", "rules", Prometheus.RULES])
    expect({ code, said }).toEqual({
      code: 0,
      said: expect.stringContaining(`SUCCESS: ${alerts.length} rules found`)
    })
  })
)

it.effect("The alert rules fire when they should, and not when they should not", (context) =>
  Effect.gen(function* () {
    const untested = alerts.map(({ name }) => name).filter((name) => !ruleTests.includes(name))
    expect(untested).toEqual([])
    yield* Prometheus.need("promtool", context)
    const { code, said } = yield* Prometheus.promtool(["test", "rules", Prometheus.RULE_TESTS])
    expect({ code, said }).toEqual({ code: 0, said: expect.stringContaining("SUCCESS") })
  })
)

layer(Environment.layer(), { excludeTestServices: true })((it) => {
  it.scoped(
    "A relay tells Prometheus every metric but the publishers' own, with its type and its meaning, in a form that promtool takes",
    (context) =>
      Effect.gen(function* () {
        const port = yield* relayThatDelivered(1)
        const text = yield* until(metricsOf(port), (text) => text.includes("outbox_open_failures 1\n"))
        const told = new Map(
          [...text.matchAll(/^# HELP (\w+) (.+)\n(?:# UNIT .+\n)?# TYPE \1 (\w+)$/gm)].map(
            ([, name = "", description, type]) => [name, { name, type, description }]
          )
        )
        for (const { description, name, type } of known.values()) {
          if (name !== PUBLISHED) expect(told.get(name)).toEqual({ name, type, description })
        }
        expect(told.has(PUBLISHED)).toBe(false)
        const series = matches(text, /^(\w+)[ {]/gm)
        expect(series.filter((name) => metricOf(name) === undefined)).toEqual([])
        expect(text).toContain(`outbox_build_info{version="${version}"} 1\n`)
        yield* Prometheus.need("promtool", context)
        expect(yield* Prometheus.promtool(["check", "metrics"], text)).toEqual({ code: 0, said: "" })
      }).pipe(Environment.fresh())
  )

  it.effect("A relay tells an empty slot from one with a single event by its bytes, as the alert does", () =>
    Effect.gen(function* () {
      const [, empty = ""] = /outbox_slot_bytes\) > (\d+)\)/.exec(Prometheus.rules) ?? []
      const { gauges } = yield* OutboxStore
      const inUse = Effect.map(gauges, ({ slotBytes }) =>
        Object.entries(slotBytes).flatMap(([slot, bytes]) => (bytes > Number(empty) ? [slot] : []))
      )
      expect(yield* inUse).toEqual([])
      yield* EventPublisher.publish(Event.make({ eventType: "scored", eventContext: {} }))
      expect(yield* inUse).toEqual(["0"])
    }).pipe(Environment.fresh())
  )

  it.scoped(
    "A relay is seen by a Prometheus as it is: what was delivered, what was refused, and the alert that this raises",
    (context) =>
      Effect.gen(function* () {
        yield* Prometheus.need("prometheus", context)
        const port = yield* relayThatDelivered(20)
        const prometheus = yield* Prometheus.start(JOB, port)
        const expected = {
          [`up{job="${JOB}"}`]: 1,
          "sum(outbox_events_delivered_total)": 20,
          "sum(outbox_events_refused_total)": 1,
          "sum(outbox_events_sealed_total)": 21,
          "sum(outbox_retries_total)": 0,
          "outbox_publish_to_delivered_seconds_count > bool 0": 1,
          "max(outbox_open_failures)": 1,
          "max(outbox_open_failure_events)": 1,
          "max(outbox_backlog_events)": 0,
          "max(outbox_relay_ready)": 1,
          "max(outbox_clickhouse_up)": 1,
          "max(outbox_postgres_up)": 1,
          "sum(outbox_workers)": 2,
          [`count(outbox_build_info{version="${version}"})`]: 1
        }
        const seen = Effect.map(
          Effect.forEach(Object.keys(expected), (expr) =>
            Effect.map(prometheus.value(expr), (value) => [expr, value] as const)
          ),
          Object.fromEntries
        )
        // The gauges are read every few seconds.
        yield* until(seen, (values) => JSON.stringify(values) === JSON.stringify(expected))

        const rules = yield* until(prometheus.rules, (rules) =>
          rules.some(({ name, state }) => name === "OutboxOpenFailures" && state === "firing")
        )
        expect(rules.filter(({ health }) => health !== "ok")).toEqual([])
        expect(rules.filter(({ state }) => state !== "inactive").map(({ name }) => name)).toEqual([
          "OutboxOpenFailures"
        ])

        const [wellRow, nextRow] = Prometheus.dashboard.panels.filter(({ type }) => type === "row")
        for (const { gridPos, targets, title } of Prometheus.dashboard.panels) {
          for (const { expr } of targets) {
            const series = yield* prometheus.query(Prometheus.asGrafana(expr, JOB))
            // Published is counted by programs that publish, and this relay is none.
            if (!expr.includes(PUBLISHED)) expect([title, series.length > 0]).toEqual([title, true])
            const isAtTheTop = gridPos.y > (wellRow?.gridPos.y ?? 0) && gridPos.y < (nextRow?.gridPos.y ?? 0)
            if (isAtTheTop) expect([title, series.length]).toEqual([title, 1])
          }
        }
      }).pipe(Environment.fresh())
  )
})
