/** The options that correct an event, and the correction that they are. */
import { buffer } from "node:stream/consumers"
import * as Options from "@effect/cli/Options"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import { fromRawMembers } from "../../internal/rawMembers.ts"
import { reasonOf } from "../../internal/text.ts"
import { metadataVersion } from "../options.ts"

export interface Given {
  readonly context: Option.Option<string>
  readonly type: Option.Option<string>
  readonly version: Option.Option<string>
  readonly time: Option.Option<string>
}

export const options: Options.Options<Given> = Options.all({
  context: Options.text("context").pipe(
    Options.withPseudoName("json"),
    Options.withDescription("What its context is to be. - reads standard input."),
    Options.optional
  ),
  type: Options.text("type").pipe(
    Options.withPseudoName("event-type"),
    Options.withDescription("What its type is to be."),
    Options.optional
  ),
  version: metadataVersion.pipe(Options.withDescription("What its metadata_version is to be."), Options.optional),
  time: Options.text("time").pipe(
    Options.withPseudoName("time"),
    Options.withDescription("What its event_date_time is to be, in RFC 3339."),
    Options.optional
  )
})

/** None if no option was given. */
export const toCorrection = ({ context, time, type, version }: Given) =>
  Effect.gen(function* () {
    const members: ReadonlyArray<readonly [string, Option.Option<string>]> = [
      ["event_context", yield* Effect.transposeMapOption(context, readContext)],
      ["event_type", Option.map(type, (text) => JSON.stringify(text))],
      ["metadata_version", version],
      ["event_date_time", Option.map(time, (text) => JSON.stringify(text))]
    ]
    const given = members.flatMap(([name, json]) => (Option.isSome(json) ? [[name, json.value] as const] : []))
    return given.length === 0 ? Option.none() : Option.some(fromRawMembers(given))
  })

export class NotJson extends Schema.TaggedError<NotJson>()("NotJson", { reason: Schema.String }) {
  override get message(): string {
    return `--context is not JSON: ${this.reason}`
  }
}

const notJson = (cause: unknown) => new NotJson({ reason: reasonOf(cause) })

/** Parsed only to see that it is JSON: what goes on is the text, in which numbers have all their digits. */
const readContext = (text: string): Effect.Effect<string, NotJson> =>
  Effect.tap(text === "-" ? standardInput : Effect.succeed(text), (context) =>
    Effect.try({ try: () => JSON.parse(context), catch: notJson })
  )

const utf8 = new TextDecoder("utf-8", { fatal: true })

const standardInput = Effect.tryPromise({
  try: async () => utf8.decode(await buffer(process.stdin)),
  catch: notJson
})
