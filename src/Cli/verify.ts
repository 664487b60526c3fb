/** `clickhouse-outbox verify` */
import * as Command from "@effect/cli/Command"
import * as Options from "@effect/cli/Options"
import { all } from "effect/Config"
import * as Console from "effect/Console"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Ref from "effect/Ref"
import * as Schema from "effect/Schema"
import * as ClickHouse from "../ClickHouse.ts"
import * as ClickHouseSink from "../ClickHouseSink.ts"
import * as Config from "../Config.ts"
import * as Postgres from "../Postgres.ts"
import { type Finding, Finding as FindingSchema, layer, Report, Verification } from "../Verification.ts"
import { flag, json, time } from "./options.ts"
import { count, errorName, fields, jsonLine, oneLine, withProgress } from "./print.ts"
import { namePostgres, withoutEcho } from "./services.ts"
import { actor } from "./terminal.ts"

/** The exit code for events that are missing, doubled or changed. 1 means that the databases could not be compared. */
const EXIT_NOT_WHOLE = 2

const options = {
  since: Options.optional(time("since")).pipe(Options.withDescription("Only what was delivered from then on.")),
  until: Options.optional(time("until")).pipe(Options.withDescription("Only what was delivered before then.")),
  contents: flag("contents").pipe(
    Options.withDescription("Compares what events say too, up to what ClickHouse's JSON type changes. Takes longer.")
  ),
  repair: flag("repair").pipe(
    Options.withDescription("Requeues batches that lack events, so that relays send what is missing.")
  ),
  json
}

export const verify = Command.make("verify", options, ({ contents, json, repair, since, until }) =>
  Effect.gen(function* () {
    const config = yield* all({ postgres: Config.postgres, clickHouse: Config.clickHouse })
    const me = yield* actor
    const compared = yield* Ref.make(0)
    const report = yield* Effect.flatMap(Verification, ({ verify }) =>
      verify({
        since: Option.getOrUndefined(since),
        until: Option.getOrUndefined(until),
        contents,
        requeueAs: repair ? me : undefined,
        onFinding: (finding) => Console.log(json ? jsonLine(encodeFinding(finding)) : describe(finding)),
        onProgress: (events) => Ref.set(compared, events)
      })
    ).pipe(
      withProgress(Effect.map(Ref.get(compared), (events) => `compared ${count(events, "event")}`)),
      Effect.provide(Layer.provide(layer, ClickHouseSink.layer(config.clickHouse))),
      Effect.provide([Postgres.layerPinned(config.postgres), ClickHouse.layer(config.clickHouse)]),
      namePostgres(config.postgres)
    )
    yield* Console.log(
      json ? jsonLine(encodeReport(report)) : [summary(report), ...advice(report, config.clickHouse)].join("\n")
    )
    if (!report.isWhole) {
      yield* Effect.sync(() => {
        process.exitCode = EXIT_NOT_WHOLE
      })
    }
  }).pipe(withoutEcho, Effect.interruptible)
).pipe(
  Command.withDescription(
    "Compares the databases: whether ClickHouse has each delivered event once, as far as the outbox still has it."
  )
)

const encodeFinding = Schema.encodeSync(FindingSchema)
const encodeReport = Schema.encodeSync(Report)

/** How many ids are printed for people. The JSON has all of them. */
const IDS_SHOWN = 3

const describe = (finding: Finding): string => {
  if (finding.kind === "failed") {
    const { batchId, code, errorClass, events, failureId } = finding
    return `failed   batch ${batchId}: ${count(events, "event")} in failure ${failureId}, ${errorName(errorClass, code)}`
  }
  const { batchId, eventIds, kind } = finding
  const shown = eventIds.slice(0, IDS_SHOWN).join(", ")
  const more = eventIds.length > IDS_SHOWN ? ` and ${eventIds.length - IDS_SHOWN} more` : ""
  return `${kind.padEnd(7)}  batch ${batchId}: ${count(eventIds.length, "event")}, ${shown}${more}`
}

const inBatches = ({ batches, events }: Report["compared"]): string =>
  `${count(events, "event")} in ${batches} ${batches === 1 ? "batch" : "batches"}`

const summary = (report: Report): string => {
  const { asOf, changed, compared, completeSince, doubled, failed, missing, notRetained, requeued, tableTtl } = report
  return fields([
    ["compared", `${inBatches(compared)}, delivered before ${asOf.toISOString()}`],
    ["complete", completeSince === null ? "from the first event on" : `since ${completeSince.toISOString()}`],
    ...(notRetained === 0 ? [] : [["left out", `${count(notRetained, "event")} no longer in these batches`] as const]),
    ["missing", missing.events === 0 ? "none" : inBatches(missing)],
    ...(requeued.events === 0 ? [] : [["requeued", `${inBatches(requeued)}, for relays to send`] as const]),
    ["doubled", doubled.events === 0 ? "none" : inBatches(doubled)],
    ...(changed === null ? [] : [["changed", changed.events === 0 ? "none" : inBatches(changed)] as const]),
    [
      "failed",
      failed.failures === 0 ? "none" : `${count(failed.events, "event")} in ${count(failed.failures, "open failure")}`
    ],
    ["undelivered", count(report.undelivered, "event")],
    ...(tableTtl === null ? [] : [["TTL", `${oneLine(tableTtl)}: what it removed counts as missing`] as const])
  ])
}

const advice = (
  { changed, doubled, requeued, missing }: Report,
  { table }: Config.ClickHouse
): ReadonlyArray<string> => {
  const steps = [
    ...(missing.events > requeued.events
      ? ["clickhouse-outbox verify --repair   let relays send what is missing"]
      : []),
    ...(requeued.events > 0 ? ["clickhouse-outbox verify            again, when relays have delivered it"] : []),
    ...(doubled.events > 0
      ? [`in ClickHouse: OPTIMIZE TABLE ${table} FINAL DEDUPLICATE BY event_type, event_date_time, event_id`]
      : []),
    ...(changed !== null && changed.events > 0
      ? ["in ClickHouse: delete the rows of changed events; then verify --repair has relays send what was published"]
      : [])
  ]
  return steps.length === 0 ? [] : ["", "to do", ...steps.map((step) => `  ${step}`)]
}
