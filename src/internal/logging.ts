/**
 * Logs on standard error, so that standard output has nothing but results.
 *
 * As JSON, one object a line and the annotations among its fields; for people where standard error is a terminal.
 * What is logged inside a span carries `trace_id` and `span_id`. Messages quote what others wrote, such as a reason or a
 * server's error: no control character of theirs gets through, so none of it looks like a line of its own.
 *
 * @since 0.1.0
 */
import * as Arr from "effect/Array"
import * as Cause from "effect/Cause"
import type * as ConfigError from "effect/ConfigError"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as FiberRef from "effect/FiberRef"
import * as FiberRefs from "effect/FiberRefs"
import * as HashMap from "effect/HashMap"
import * as Inspectable from "effect/Inspectable"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as Option from "effect/Option"
import * as Tracer from "effect/Tracer"
import * as Config from "../Config.ts"
import { reasonOf, visible, visibleLines } from "./text.ts"

/**
 * @since 0.1.0
 * @category layers
 */
const layer = (config: Config.Log): Layer.Layer<never> => {
  const format = Option.getOrElse(config.format, () => (process.stderr.isTTY ? "pretty" : "json"))
  return Layer.merge(
    Logger.replace(Logger.defaultLogger, withTraceIds(textual(format === "pretty" ? pretty : json))),
    Logger.minimumLogLevel(config.level)
  )
}

/**
 * {@link layer} from the environment: `LOG_LEVEL`, `LOG_FORMAT`.
 *
 * @since 0.1.0
 * @category layers
 */
export const layerConfig: Layer.Layer<never, ConfigError.ConfigError> = Layer.unwrapEffect(
  Effect.map(Config.log, layer)
)

/** Names as in https://opentelemetry.io/docs/specs/otel/compatibility/logging_trace_context/ */
const traceIds = (fiberRefs: FiberRefs.FiberRefs): HashMap.HashMap<string, unknown> =>
  FiberRefs.getOrDefault(fiberRefs, FiberRef.currentContext).pipe(
    Context.getOption(Tracer.ParentSpan),
    Option.match({
      onNone: () => HashMap.empty(),
      onSome: ({ spanId, traceId }) => HashMap.make(["trace_id", traceId], ["span_id", spanId])
    })
  )

/** Of an error its reason is logged: its stack is that of a library's callback. */
const toText = (message: unknown): string =>
  Arr.ensure(message)
    .map((part) => (part instanceof Error ? reasonOf(part) : Inspectable.toStringUnknown(part, 0)))
    .join(": ")

/** Messages as text. Shared with what is sent over OTLP, where a record knows its span by itself. */
export const textual = Logger.mapInputOptions<unknown, unknown>((options) => ({
  ...options,
  message: toText(options.message)
}))

const withTraceIds = Logger.mapInputOptions<unknown, unknown>((options) => ({
  ...options,
  annotations: HashMap.union(options.annotations, traceIds(options.context))
}))

/** Lines after a message's first are indented, as the causes and annotations below them are. */
const indented = (text: string): string => visibleLines(text).replaceAll("\n", "\n    ")

const pretty = Logger.prettyLogger({ stderr: true, colors: process.stderr.isTTY }).pipe(
  Logger.mapInputOptions<unknown, unknown>(({ annotations, cause, message, ...options }) => ({
    ...options,
    message: [
      indented(String(message)),
      ...(Cause.isEmpty(cause) ? [] : [visibleLines(Cause.pretty(cause, { renderErrorCause: true }))])
    ],
    annotations: HashMap.map(annotations, (value) => (typeof value === "string" ? visible(value) : value)),
    cause: Cause.empty
  }))
)

const json = Logger.structuredLogger.pipe(
  Logger.map(({ annotations, cause, logLevel, message, timestamp }) =>
    visible(Inspectable.stringifyCircular({ timestamp, level: logLevel, message, ...annotations, cause }))
  ),
  Logger.withConsoleError
)
