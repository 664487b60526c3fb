/** OpenTelemetry's SDK behind Effect's tracer, logger and metrics. Loaded only where something is sent. */
import { hostname } from "node:os"
import * as OtelLogger from "@effect/opentelemetry/Logger"
import * as NodeSdk from "@effect/opentelemetry/NodeSdk"
import * as Resource from "@effect/opentelemetry/Resource"
import * as OtelTracer from "@effect/opentelemetry/Tracer"
import { DiagLogLevel, diag, ROOT_CONTEXT, TraceFlags, trace } from "@opentelemetry/api"
import { type AnyValue, SeverityNumber } from "@opentelemetry/api-logs"
import { OTLPLogExporter } from "@opentelemetry/exporter-logs-otlp-proto"
import { OTLPMetricExporter } from "@opentelemetry/exporter-metrics-otlp-proto"
import { OTLPTraceExporter } from "@opentelemetry/exporter-trace-otlp-proto"
import { detectResources, envDetector, resourceFromAttributes } from "@opentelemetry/resources"
import { BatchLogRecordProcessor } from "@opentelemetry/sdk-logs"
import { PeriodicExportingMetricReader } from "@opentelemetry/sdk-metrics"
import { BatchSpanProcessor } from "@opentelemetry/sdk-trace-base"
import * as Cause from "effect/Cause"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as FiberRef from "effect/FiberRef"
import * as FiberRefs from "effect/FiberRefs"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import type * as LogLevel from "effect/LogLevel"
import * as Option from "effect/Option"
import * as Runtime from "effect/Runtime"
import * as Schema from "effect/Schema"
import * as Tracer from "effect/Tracer"
import type * as Config from "../Config.ts"
import * as Logging from "../internal/logging.ts"
import { version } from "../internal/version.ts"
import { register } from "./producer.ts"

const SHUTDOWN = { shutdownTimeout: "3 seconds" } as const

export const layer = (config: Config.Telemetry, serviceName: string): Layer.Layer<never> =>
  Layer.mergeAll(
    config.traces ? traces : Layer.empty,
    config.metrics ? metrics(config.metricsInterval) : Layer.empty,
    config.logs ? logs : Layer.empty
  ).pipe(Layer.provide(resource(serviceName)), Layer.provide(warnings))

/** What the environment says about the process takes precedence. */
const resource = (serviceName: string) =>
  Layer.sync(Resource.Resource, () =>
    resourceFromAttributes({
      "service.name": serviceName,
      "service.version": version,
      "service.instance.id": `${hostname()}/${process.pid}`
    }).merge(detectResources({ detectors: [envDetector] }))
  )

const traces = OtelTracer.layer.pipe(
  Layer.provide(
    Layer.suspend(() => NodeSdk.layerTracerProvider(new BatchSpanProcessor(new OTLPTraceExporter()), SHUTDOWN))
  )
)

const metrics = (interval: Duration.Duration) =>
  Layer.scopedDiscard(
    register(
      () =>
        new PeriodicExportingMetricReader({
          exporter: new OTLPMetricExporter(),
          exportIntervalMillis: Duration.toMillis(interval),
          // Has to be shorter than the interval.
          exportTimeoutMillis: Math.min(Duration.toMillis(interval), 30_000)
        })
    )
  )

/** Of https://opentelemetry.io/docs/specs/otel/logs/data-model/#field-severitynumber */
const SEVERITIES: Readonly<Record<LogLevel.LogLevel["_tag"], SeverityNumber>> = {
  All: SeverityNumber.TRACE,
  Trace: SeverityNumber.TRACE,
  Debug: SeverityNumber.DEBUG,
  Info: SeverityNumber.INFO,
  Warning: SeverityNumber.WARN,
  Error: SeverityNumber.ERROR,
  Fatal: SeverityNumber.FATAL,
  None: SeverityNumber.UNSPECIFIED
}

/**
 * Beside the log on standard error. Not `OtelLogger.layerLoggerAdd`, whose severities are Effect's own numbers and whose
 * records belong to no trace.
 */
const logs = Logger.addEffect(
  Effect.map(OtelLogger.OtelLoggerProvider, (provider) => {
    const logger = provider.getLogger("clickhouse-outbox", version)
    return Logging.textual(
      Logger.make(({ annotations, cause, context, date, logLevel, message }) =>
        logger.emit({
          body: String(message),
          severityText: logLevel.label,
          severityNumber: SEVERITIES[logLevel._tag],
          timestamp: date,
          attributes: {
            ...Object.fromEntries([...annotations].map(([name, value]) => [name, toAttribute(value)])),
            ...(!Cause.isEmpty(cause) && { "exception.stacktrace": Cause.pretty(cause) })
          },
          context: contextOf(context)
        })
      )
    )
  })
).pipe(
  Layer.provide(
    Layer.suspend(() =>
      OtelLogger.layerLoggerProvider(new BatchLogRecordProcessor({ exporter: new OTLPLogExporter() }), SHUTDOWN)
    )
  )
)

const toAttribute = (value: unknown): AnyValue =>
  typeof value === "number" || typeof value === "boolean" ? value : String(value)

const contextOf = (fiberRefs: FiberRefs.FiberRefs) =>
  FiberRefs.getOrDefault(fiberRefs, FiberRef.currentContext).pipe(
    Context.getOption(Tracer.ParentSpan),
    Option.match({
      onNone: () => ROOT_CONTEXT,
      onSome: ({ sampled, spanId, traceId }) =>
        trace.setSpanContext(ROOT_CONTEXT, {
          traceId,
          spanId,
          traceFlags: sampled ? TraceFlags.SAMPLED : TraceFlags.NONE
        })
    })
  )

/** The same warning is logged once a minute: an endpoint that is away would give one for each export. */
const REPEAT_MILLIS = 60_000

/** Logs what the SDK could not do, which it tells nobody else. */
const warnings = Layer.effectDiscard(
  Effect.map(Effect.runtime<never>(), (runtime) => {
    const loggedAt = new Map<string, number>()
    const log = (text: string) => {
      const message = firstLine(text)
      const now = Date.now()
      if (now - (loggedAt.get(message) ?? 0) < REPEAT_MILLIS) return
      loggedAt.set(message, now)
      Runtime.runFork(runtime)(Effect.logWarning(`Telemetry: ${message}`))
    }
    const ignore = () => {}
    diag.setLogger(
      { error: log, warn: log, info: ignore, debug: ignore, verbose: ignore },
      { logLevel: DiagLogLevel.WARN, suppressOverrideMessage: true }
    )
  })
)

/** The SDK gives errors as JSON, with their stacks. */
const SdkError = Schema.parseJson(Schema.Struct({ message: Schema.String }))

const firstLine = (text: string): string => {
  const { message } = Option.getOrElse(Schema.decodeOption(SdkError)(text), () => ({ message: text }))
  return message.split("\n", 1).join()
}
