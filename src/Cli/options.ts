/** Arguments and options that several commands have, and how their texts are read. */
import * as Args from "@effect/cli/Args"
import * as HelpDoc from "@effect/cli/HelpDoc"
import * as Options from "@effect/cli/Options"
import * as ValidationError from "@effect/cli/ValidationError"
import * as Arr from "effect/Array"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import { BatchId } from "../Batch.ts"
import { FailureId } from "../BatchFailures.ts"
import { EventId } from "../Event.ts"
import { CallerName, Role } from "../internal/callers.ts"
import { isDay } from "../internal/rfc3339.ts"
import { DEFAULT_LIMIT } from "../schema/columns.ts"
import { visible } from "./print.ts"

/** How a text is read, or what it must be. */
interface Reader<A> {
  readonly read: (text: string) => Effect.Effect<Option.Option<A>>
  readonly must: string
}

const fromSchema = <A>(schema: Schema.Schema<A, string>, must: string): Reader<A> => ({
  read: (text) => Effect.option(Schema.decode(schema)(text)),
  must
})

const wrong = (given: { readonly name: string; readonly must: string; readonly text: string }): HelpDoc.HelpDoc =>
  HelpDoc.p(`${given.name}: must be ${given.must}, not "${visible(given.text)}"`)

const argument = <A>(name: string, { must, read }: Reader<A>): Args.Args<A> =>
  Args.text({ name }).pipe(
    Args.mapEffect((text) =>
      Effect.flatMap(
        read(text),
        Effect.mapError(() => wrong({ name: `<${name}>`, must, text }))
      )
    )
  )

/** @param placeholder what the help prints for the value */
const option = <A>(
  { name, placeholder }: { readonly name: string; readonly placeholder: string },
  { must, read }: Reader<A>
): Options.Options<A> =>
  Options.text(name).pipe(
    Options.withPseudoName(placeholder),
    Options.mapEffect((text) =>
      Effect.flatMap(
        read(text),
        Effect.mapError(() => ValidationError.invalidValue(wrong({ name: `--${name}`, must, text })))
      )
    )
  )

/** Digits only: `Number` would take "1e3" and "0x10" as well. */
const Digits = Schema.String.pipe(Schema.pattern(/^\d+$/))

const wholeNumber = (least: number, most: number) =>
  fromSchema(
    Schema.compose(Digits, Schema.NumberFromString).pipe(Schema.int(), Schema.between(least, most)),
    `a whole number from ${least}`
  )

const MAX_ID = Number.MAX_SAFE_INTEGER

const id = wholeNumber(1, MAX_ID)
const batch = fromSchema(
  Schema.compose(Digits, Schema.NumberFromString).pipe(Schema.compose(BatchId)),
  "the number of a batch"
)
const failure = fromSchema(
  Schema.compose(Digits, Schema.NumberFromString).pipe(Schema.compose(FailureId)),
  "the number of a failure"
)
const uuid = fromSchema(Schema.compose(Schema.Trim, EventId), "an event's uuid")

export const failureId = argument("ID", failure)
export const batchId = argument("ID", batch)
export const eventId = argument("EVENT_ID", uuid)

/** As whom the operator API knows somebody. One that begins with # would be a comment where it is configured. */
export const callerName = argument(
  "NAME",
  fromSchema(
    CallerName.pipe(Schema.filter((name) => !name.startsWith("#"))),
    "1 to 255 printable ASCII characters, without spaces and commas, and no # in front"
  )
)

export const role: Options.Options<Role> = option(
  { name: "role", placeholder: Role.literals.join("|") },
  fromSchema(Schema.compose(Schema.String, Role), Role.literals.join(" or "))
)

/** What an operator has to say about a change. */
export const text = (name: string): Options.Options<string> =>
  option(
    { name, placeholder: "text" },
    fromSchema(Schema.compose(Schema.Trim, Schema.NonEmptyTrimmedString), "some text")
  )

/** The names of all flags, as they are written. */
const flags = new Set<string>()

/**
 * An option that says yes and takes no value. @effect/cli would take the argument after it for its value, if it could be
 * one: the 1 of `failures show --json 1` is a failure, not a yes. {@link normalize} keeps it from that.
 */
export const flag = (name: string): Options.Options<boolean> => {
  flags.add(`--${name}`)
  return Options.boolean(name)
}

export const json = flag("json").pipe(Options.withDescription("Prints JSON, in one line."))

const LOG_LEVEL = "--log-level"

/**
 * The arguments as @effect/cli reads them right: every flag with its value, and the log level in front of the command,
 * where alone it looks for it.
 *
 * @param argv as in `process.argv`
 */
export const normalize = ([node = "", script = "", ...args]: ReadonlyArray<string>): ReadonlyArray<string> => {
  const isLogLevel = (n: number) =>
    args[n] === LOG_LEVEL || args[n - 1] === LOG_LEVEL || args[n]?.startsWith(`${LOG_LEVEL}=`) === true
  const [rest, logLevel] = Arr.partition(args, (_, n) => isLogLevel(n))
  return [node, script, ...logLevel, ...rest.map((argument) => (flags.has(argument) ? `${argument}=true` : argument))]
}

export const event = option({ name: "event", placeholder: "event-id" }, uuid)

/** An error code of ClickHouse. */
export const code = option({ name: "code", placeholder: "number" }, wholeNumber(0, 2 ** 31 - 1))

export const origin = option({ name: "origin", placeholder: "id" }, batch)

/**
 * Digits, of which there may be more than a JavaScript number holds. Not called --version, which every command has.
 */
export const metadataVersion = option(
  { name: "metadata-version", placeholder: "number" },
  fromSchema(Digits, "a whole number from 0")
)

const MILLIS: Readonly<Record<string, number>> = { s: 1_000, m: 60_000, h: 3_600_000, d: 86_400_000 }

/** RFC 3339, or only a day of it. */
const TIME = /^(\d{4}-\d{2}-\d{2})(?:[T ]\d{2}:\d{2}(?::\d{2}(?:\.\d+)?)?(?:Z|[+-]\d{2}:\d{2}))?$/

const AGO = /^(\d{1,9})([smhd])$/

const parseTime = (text: string, now: number): number => {
  const [, amount, unit = ""] = AGO.exec(text) ?? []
  if (amount !== undefined) return now - Number(amount) * (MILLIS[unit] ?? 0)
  return isDay(TIME.exec(text)?.[1] ?? "") ? Date.parse(text) : Number.NaN
}

const pointInTime: Reader<Date> = {
  must: "a time such as 2026-01-31T12:00:00Z, 2026-01-31 or 2h (ago; s, m, h or d)",
  read: (text) =>
    Effect.map(Clock.currentTimeMillis, (now) =>
      Option.liftPredicate(new Date(parseTime(text, now)), (time) => !Number.isNaN(time.getTime()))
    )
}

export const time = (name: string): Options.Options<Date> => option({ name, placeholder: "time" }, pointInTime)

const pageOf = <Key>(key: Reader<Key>) => ({
  after: Options.optional(option({ name: "after", placeholder: "id" }, key)).pipe(
    Options.withDescription("The last that was shown: what comes after it is shown now.")
  ),
  limit: option({ name: "limit", placeholder: "number" }, wholeNumber(1, MAX_ID)).pipe(
    Options.withDefault(DEFAULT_LIMIT),
    Options.withDescription("The most that are shown.")
  )
})

/** A page of a list. */
export const page = pageOf(id)
export const failurePage = pageOf(failure)
export const batchPage = pageOf(batch)
