/** What is sent over OTLP, as OpenTelemetry's standard variables say. */
import * as Config from "effect/Config"
import * as ConfigError from "effect/ConfigError"
import * as Duration from "effect/Duration"
import * as Either from "effect/Either"
import * as Option from "effect/Option"

/** An empty variable is one that is not set. */
const given = (name: string): Config.Config<Option.Option<string>> =>
  Config.option(Config.string(name)).pipe(Config.map(Option.filter((text) => text !== "")))

/** One of several words, in whatever case. */
const word = (name: string): Config.Config<Option.Option<string>> =>
  Config.map(
    given(name),
    Option.map((text) => text.toLowerCase())
  )

const OTLP = "OTEL_EXPORTER_OTLP"

/** What the variables say about traces, metrics or logs. */
interface Signal {
  readonly isSent: boolean
  /** An exporter that is named and not supported. Other programs may share the variables, so it is no error. */
  readonly ignored: Option.Option<string>
}

const NOT_SENT: Signal = { isSent: false, ignored: Option.none() }

/** Sent if there is an endpoint, or if the exporter is `otlp`. Variables of what is not sent are not checked. */
const signal = (name: "TRACES" | "METRICS" | "LOGS"): Config.Config<Signal> =>
  Config.all({
    disabled: word("OTEL_SDK_DISABLED"),
    exporter: word(`OTEL_${name}_EXPORTER`),
    endpoint: given(`${OTLP}_ENDPOINT`),
    ownEndpoint: given(`${OTLP}_${name}_ENDPOINT`),
    protocol: word(`${OTLP}_PROTOCOL`),
    ownProtocol: word(`${OTLP}_${name}_PROTOCOL`)
  }).pipe(
    Config.mapOrFail(({ disabled, endpoint, exporter, ownEndpoint, ownProtocol, protocol }) => {
      if (Option.exists(disabled, (text) => text === "true")) return Either.right(NOT_SENT)
      if (Option.exists(exporter, (text) => text !== "otlp")) {
        const ignored = Option.filter(exporter, (text) => text !== "none")
        return Either.right({
          isSent: false,
          ignored: Option.map(ignored, (text) => `OTEL_${name}_EXPORTER is ${text}, and only otlp is supported`)
        })
      }
      if (Option.isNone(exporter) && Option.isNone(endpoint) && Option.isNone(ownEndpoint))
        return Either.right(NOT_SENT)
      return Either.all([
        checkEndpoint(`${OTLP}_ENDPOINT`, endpoint),
        checkEndpoint(`${OTLP}_${name}_ENDPOINT`, ownEndpoint),
        checkProtocol(`${OTLP}_PROTOCOL`, protocol),
        checkProtocol(`${OTLP}_${name}_PROTOCOL`, ownProtocol)
      ]).pipe(Either.map(() => ({ isSent: true, ignored: Option.none() })))
    })
  )

const check =
  (must: string, isRight: (text: string) => boolean) =>
  (name: string, text: Option.Option<string>): Either.Either<void, ConfigError.ConfigError> =>
    Option.exists(text, (text) => !isRight(text))
      ? Either.left(ConfigError.InvalidData([name], `must be ${must}`))
      : Either.void

const checkEndpoint = check(
  "a URL that starts with http:// or https://",
  (url) => /^https?:\/\//i.test(url) && URL.canParse(url)
)

const checkProtocol = check("http/protobuf, the only protocol supported", (protocol) => protocol === "http/protobuf")

const INTERVAL = "OTEL_METRIC_EXPORT_INTERVAL"

const parseInterval = (text: Option.Option<string>): Either.Either<Duration.Duration, ConfigError.ConfigError> => {
  if (Option.isNone(text)) return Either.right(Duration.minutes(1))
  return /^[1-9]\d{0,8}$/.test(text.value)
    ? Either.right(Duration.millis(Number(text.value)))
    : Either.left(ConfigError.InvalidData([INTERVAL], "must be a number of milliseconds from 1"))
}

/**
 * What is sent over OTLP. Where to, how, and how much of it, OpenTelemetry's own libraries read from the environment:
 * https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/
 *
 * @since 0.1.0
 * @category config
 */
export const telemetry = Config.all({
  traces: signal("TRACES"),
  metrics: signal("METRICS"),
  logs: signal("LOGS"),
  interval: given(INTERVAL)
}).pipe(
  Config.mapOrFail(({ interval, logs, metrics, traces }) =>
    Either.map(parseInterval(metrics.isSent ? interval : Option.none()), (metricsInterval) => ({
      traces: traces.isSent,
      metrics: metrics.isSent,
      logs: logs.isSent,
      /** Time between two exports of metrics. */
      metricsInterval,
      /** Variables that have no effect, for the log. */
      ignored: [traces, metrics, logs].flatMap(({ ignored }) => Option.toArray(ignored))
    }))
  )
)
export type Telemetry = Config.Config.Success<typeof telemetry>
