/**
 * Telemetry over OTLP: Effect's spans, logs and metrics to whatever speaks OpenTelemetry.
 *
 * Configured by the standard `OTEL_…` variables. Without an endpoint nothing is sent, and its libraries are
 * not even loaded. What cannot be sent is dropped with a warning, so telemetry never slows delivery down.
 *
 * For programs without an OpenTelemetry of their own. One that has it, as through `@effect/opentelemetry`'s `NodeSdk`,
 * sends this project's spans, logs and metrics already.
 *
 * @since 0.1.0
 */
import type * as Resource from "@effect/opentelemetry/Resource"
import type { MetricReader } from "@opentelemetry/sdk-metrics"
import type * as ConfigError from "effect/ConfigError"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type * as Scope from "effect/Scope"
import * as Config from "./Config.ts"

/**
 * Sends until the scope closes, and then what is left, for 3 seconds at most. If nobody answers then, a process that ends
 * by itself may live on for the exporter's time-out.
 *
 * @param serviceName `service.name`, unless `OTEL_SERVICE_NAME` or `OTEL_RESOURCE_ATTRIBUTES` says otherwise
 * @since 0.1.0
 * @category layers
 */
export const layer = (config: Config.Telemetry, serviceName = "clickhouse-outbox"): Layer.Layer<never> =>
  Layer.merge(
    config.traces || config.metrics || config.logs
      ? Layer.unwrapEffect(
          Effect.map(
            Effect.promise(() => import("./Telemetry/otlp.ts")),
            (otlp) => otlp.layer(config, serviceName)
          )
        )
      : Layer.empty,
    Layer.effectDiscard(Effect.forEach(config.ignored, (what) => Effect.logWarning(`Telemetry: ${what}`)))
  )

/**
 * {@link layer} from the environment. Provide it last, so that everything is inside.
 *
 * @example
 * ```ts
 * import { Effect, Layer } from "effect"
 * import { Postgres, Relay, Telemetry } from "clickhouse-outbox"
 *
 * const main = Relay.layerConfig.pipe(
 *   Layer.provide(Postgres.layerConfig),
 *   Layer.provide(Telemetry.layerConfig("my-relay")),
 *   Layer.launch
 * )
 * ```
 * @since 0.1.0
 * @category layers
 */
export const layerConfig = (serviceName?: string): Layer.Layer<never, ConfigError.ConfigError> =>
  Layer.unwrapEffect(Effect.map(Config.telemetry, (config) => layer(config, serviceName)))

/**
 * Hands a reader what this program measures, until the scope closes. Loads OpenTelemetry's libraries.
 *
 * @internal
 */
export const registerReader = (reader: MetricReader): Effect.Effect<unknown, never, Resource.Resource | Scope.Scope> =>
  Effect.flatMap(
    Effect.promise(() => import("./Telemetry/producer.ts")),
    ({ register }) => register(() => reader)
  )
