/** `clickhouse-outbox incidents` */
import * as Command from "@effect/cli/Command"
import * as Options from "@effect/cli/Options"
import * as Console from "effect/Console"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import { Incident, layer, Operations } from "../Operations.ts"
import { json, page } from "./options.ts"
import { errorName, jsonLine, more, summary, table, times } from "./print.ts"
import { withServices } from "./services.ts"

const state = Options.choice("state", Incident.fields.state.literals).pipe(Options.optional)

const list = Command.make("list", { state, ...page, json }, ({ after, json, limit, state }) =>
  Effect.gen(function* () {
    const incidents = yield* (yield* Operations).incidents(
      { state: Option.getOrUndefined(state) },
      { after: Option.getOrUndefined(after), limit }
    )
    yield* Console.log(json ? jsonLine(encode(incidents)) : yield* describe(incidents, limit))
  }).pipe(withServices(layer))
).pipe(Command.withDescription("Lists incidents, newest first."))

export const incidents = Command.make("incidents").pipe(
  Command.withDescription("Times in which batches did not get through although nothing was wrong with their events."),
  Command.withSubcommands([list])
)

const encode = Schema.encodeSync(Schema.Array(Incident))

const describe = (incidents: ReadonlyArray<Incident>, limit: number): Effect.Effect<string> =>
  Effect.map(times, (time) => {
    if (incidents.length === 0) return "no incidents"
    const rows = incidents.map((incident) => [
      String(incident.id),
      incident.state,
      errorName(incident.errorClass, incident.code),
      incident.batchIds.join(","),
      String(incident.attempts),
      time(incident.beganAt),
      incident.closedAt === null ? "" : time(incident.closedAt),
      summary(incident.message)
    ])
    const titles = ["ID", "STATE", "CLASS", "BATCH IDS", "ATTEMPTS", "BEGAN", "CLOSED", "MESSAGE"]
    return [table([titles, ...rows]), ...more(incidents, limit)].join("\n")
  })
