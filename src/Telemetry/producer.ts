/** Effect's metrics as OpenTelemetry reads them. */
import * as Metrics from "@effect/opentelemetry/Metrics"
import type * as Resource from "@effect/opentelemetry/Resource"
import type { MetricProducer, MetricReader } from "@opentelemetry/sdk-metrics"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"

/**
 * Hands them to a reader. Without units, which are in their names: Effect's exporter gives each the unit "1", for which
 * Prometheus' translation of OTLP puts `_ratio` behind the names of gauges.
 */
export const register = (reader: () => MetricReader): Effect.Effect<unknown, never, Resource.Resource | Scope.Scope> =>
  Effect.flatMap(Metrics.makeProducer, (producer) => Metrics.registerProducer(withoutUnits(producer), reader))

const withoutUnits = (producer: MetricProducer): MetricProducer => ({
  collect: async (options) => {
    const { errors, resourceMetrics } = await producer.collect(options)
    const scopeMetrics = resourceMetrics.scopeMetrics.map(({ metrics, scope }) => ({
      scope,
      metrics: metrics.map((metric) => ({ ...metric, descriptor: { ...metric.descriptor, unit: "" } }))
    }))
    return { errors, resourceMetrics: { ...resourceMetrics, scopeMetrics } }
  }
})
