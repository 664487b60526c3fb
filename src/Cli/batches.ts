/** `clickhouse-outbox batches` */
import * as Command from "@effect/cli/Command"
import * as Options from "@effect/cli/Options"
import * as Console from "effect/Console"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import { BatchState, BatchStatus, layer, Operations } from "../Operations.ts"
import { batchId, batchPage, json, origin } from "./options.ts"
import {
  count,
  errorName,
  fields,
  indented,
  indentedTable,
  jsonLine,
  more,
  summary,
  table,
  times,
  visibleLines
} from "./print.ts"
import { withServices } from "./services.ts"

const state = Options.choice("state", BatchState.literals).pipe(Options.optional)

const originId = origin.pipe(
  Options.withDescription("Those that were split off this one, and itself."),
  Options.optional
)

const list = Command.make("list", { state, originId, ...batchPage, json }, ({ after, json, limit, originId, state }) =>
  Effect.gen(function* () {
    const batches = yield* (yield* Operations).batches(
      { state: Option.getOrUndefined(state), originId: Option.getOrUndefined(originId) },
      { after: Option.getOrUndefined(after), limit }
    )
    if (json) return yield* Console.log(jsonLine(encodeAll(batches)))
    if (batches.length === 0) return yield* Console.log("no batches")
    yield* Console.log([table(yield* toRows(batches)), ...more(batches, limit)].join("\n"))
  }).pipe(withServices(layer))
).pipe(Command.withDescription("Lists batches, newest first."))

const show = Command.make("show", { batchId, json }, ({ batchId, json }) =>
  Effect.gen(function* () {
    const operations = yield* Operations
    const batch = yield* operations.batch(batchId)
    const children = yield* operations.batches(
      // The parent alone would do, but the origin has an index.
      { originId: batch.originId ?? batch.id, parentId: batch.id },
      { limit: MAX_CHILDREN }
    )
    const parts = children.toReversed()
    yield* Console.log(
      json ? jsonLine({ ...encode(batch), children: encodeAll(parts) }) : yield* describe(batch, parts)
    )
  }).pipe(withServices(layer))
).pipe(Command.withDescription("Shows a batch, what it was split off or into, and the failure that it became."))

/** More than a batch is ever split into at once. */
const MAX_CHILDREN = 10_000

export const batches = Command.make("batches").pipe(
  Command.withDescription("What was sealed, and how its delivery goes."),
  Command.withSubcommands([list, show])
)

const encode = Schema.encodeSync(BatchStatus)
const encodeAll = Schema.encodeSync(Schema.Array(BatchStatus))

const toRows = (batches: ReadonlyArray<BatchStatus>) =>
  Effect.map(times, (time) => [
    ["ID", "STATE", "EVENTS", "ATTEMPTS", "SEALED", "FAILURE", "CLASS", "MESSAGE"],
    ...batches.map((batch) => [
      String(batch.id),
      batch.state,
      String(batch.eventCount),
      String(batch.attempts),
      time(batch.sealedAt),
      String(batch.failureId ?? ""),
      errorName(batch.errorClass, batch.code),
      summary(batch.message)
    ])
  ])

const describe = (batch: BatchStatus, children: ReadonlyArray<BatchStatus>): Effect.Effect<string> =>
  Effect.gen(function* () {
    const time = yield* times
    const parts = children.length === 0 ? [] : [`split into\n${indentedTable(yield* toRows(children))}`]
    const when = (title: string, at: Date | null) => (at === null ? [] : [[title, time(at)]])
    const id = (title: string, id: number | null) => (id === null ? [] : [[title, String(id)]])
    return [
      fields([
        ["batch", `${batch.id}, ${batch.state}`],
        ["events", `${batch.eventCount}, ${count(batch.byteCount, "byte")}`],
        ["attempts", String(batch.attempts)],
        ...when("sealed", batch.sealedAt),
        ...when("first error", batch.firstErrorAt),
        ...(batch.errorClass === null ? [] : [["last error", errorName(batch.errorClass, batch.code)]]),
        ...when(batch.state === "leased" ? "leased until" : "tried again", batch.availableAt),
        ...(batch.state === "leased" ? [["leased by", batch.leaseOwner ?? ""]] : []),
        ...when("delivered", batch.deliveredAt),
        ...id("split off", batch.parentId),
        ...id("sealed as", batch.originId),
        ...id("failure", batch.failureId),
        ...id("incident", batch.incidentId),
        ["token", batch.token]
      ]),
      ...(batch.message === null ? [] : [`message\n${indented(visibleLines(batch.message.trim()))}`]),
      ...parts
    ].join("\n\n")
  })
