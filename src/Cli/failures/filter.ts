/** Which failures: the options that say so. */
import * as Options from "@effect/cli/Options"
import * as Option from "effect/Option"
import type { Filter } from "../../BatchFailures.ts"
import { ErrorClass } from "../../SinkError.ts"
import { code, time } from "../options.ts"

/** Everything given must hold. */
export const filter = Options.all({
  errorClass: Options.optional(Options.choice("class", ErrorClass.literals)),
  code: code.pipe(Options.withDescription("ClickHouse's error code."), Options.optional),
  eventType: Options.text("type").pipe(
    Options.withPseudoName("event-type"),
    Options.withDescription("One of its events has this type."),
    Options.optional
  ),
  since: time("since").pipe(
    Options.withDescription("Last refused at this time or later: RFC 3339, a date in UTC, or 2h for two hours ago."),
    Options.optional
  ),
  until: time("until").pipe(Options.withDescription("Last refused before this time."), Options.optional)
}).pipe(
  Options.map(
    ({ code, errorClass, eventType, since, until }): Filter => ({
      ...(Option.isSome(errorClass) && { class: errorClass.value }),
      ...(Option.isSome(code) && { code: code.value }),
      ...(Option.isSome(eventType) && { eventType: eventType.value }),
      ...(Option.isSome(since) && { since: since.value }),
      ...(Option.isSome(until) && { until: until.value })
    })
  )
)
