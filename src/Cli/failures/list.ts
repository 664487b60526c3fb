/** `clickhouse-outbox failures list` */
import * as Command from "@effect/cli/Command"
import * as Options from "@effect/cli/Options"
import * as Console from "effect/Console"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import { BatchFailure, BatchFailures, FailureState, layer } from "../../BatchFailures.ts"
import { failurePage, json } from "../options.ts"
import { withServices } from "../services.ts"
import { table } from "../table.ts"
import { cut, jsonLine, oneLine, times } from "../text.ts"
import { errorName, more, summary } from "../wording.ts"
import { filter } from "./filter.ts"

const state = Options.choice("state", FailureState.literals).pipe(Options.optional)

export const list = Command.make(
  "list",
  { state, filter, ...failurePage, json },
  ({ after, filter, json, limit, state }) =>
    Effect.gen(function* () {
      const failures = yield* (yield* BatchFailures).list(
        { ...filter, ...(Option.isSome(state) && { state: state.value }) },
        { after: Option.getOrUndefined(after), limit }
      )
      yield* Console.log(json ? forPrograms(failures) : yield* forPeople(failures, limit))
    }).pipe(withServices(layer))
).pipe(Command.withDescription("Lists what ClickHouse refused, newest first. Those that wait for you: --state open."))

const encode = Schema.encodeSync(Schema.Array(BatchFailure))

const forPrograms = (failures: ReadonlyArray<BatchFailure>): string => jsonLine(encode(failures))

const forPeople = (failures: ReadonlyArray<BatchFailure>, limit: number): Effect.Effect<string> =>
  Effect.map(times, (time) => {
    if (failures.length === 0) return "no failures"
    const rows = failures.map((failure) => [
      String(failure.id),
      failure.nextFailureId === null ? failure.state : `${failure.state} -> ${failure.nextFailureId}`,
      String(failure.eventCount),
      formatTypes(failure.eventTypes),
      errorName(failure.errorClass, failure.code),
      time(failure.lastSeenAt),
      summary(failure.message)
    ])
    return [
      table([["ID", "STATE", "EVENTS", "TYPE", "CLASS", "LAST SEEN", "MESSAGE"], ...rows]),
      ...more(failures, limit)
    ].join("\n")
  })

const MAX_TYPE_COLUMNS = 40

const formatTypes = ([first = "", ...others]: ReadonlyArray<string>): string =>
  cut(oneLine(first), MAX_TYPE_COLUMNS) + (others.length === 0 ? "" : ` +${others.length}`)
