/**
 * What orchestrators and Prometheus ask for. They send no token, so nothing here names a host or quotes an event. It is
 * answered from what the relay knows already, so that asking costs next to nothing, however often.
 */
import * as Resource from "@effect/opentelemetry/Resource"
import * as HttpServerResponse from "@effect/platform/HttpServerResponse"
import { PrometheusExporter, PrometheusSerializer } from "@opentelemetry/exporter-prometheus"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import type * as Scope from "effect/Scope"
import { version } from "../internal/version.ts"
import * as Metrics from "../Metrics.ts"
import { Health } from "../Relay.ts"
import * as Telemetry from "../Telemetry.ts"

export const PATHS = ["/healthz", "/readyz", "/version", "/metrics"] as const

type Probes = Readonly<Record<(typeof PATHS)[number], Effect.Effect<HttpServerResponse.HttpServerResponse>>>

/** @param health none as long as the relay waits to start */
export const make = (health: Effect.Effect<Option.Option<Health>>): Effect.Effect<Probes, never, Scope.Scope> =>
  Effect.map(prometheus, (metrics) => ({
    "/healthz": json(200, { status: "ok" }),
    "/readyz": Effect.flatMap(health, readiness),
    "/version": json(200, { version }),
    "/metrics": metrics
  }))

export const isProbe = (path: string): path is keyof Probes => PATHS.some((probe) => probe === path)

const json = (status: number, body: object) =>
  Effect.succeed(HttpServerResponse.text(JSON.stringify(body), { status, contentType: "application/json" }))

const readiness = Option.match({
  onNone: () => json(503, { status: "starting" }),
  onSome: (health: Health) =>
    json(health.ready ? 200 : 503, {
      status: health.ready ? "ready" : "not ready",
      checks: Schema.encodeSync(Health)(health)
    })
})

/** https://prometheus.io/docs/instrumenting/exposition_formats/#text-based-format */
const CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

/**
 * By OpenTelemetry's exporter, without the server that it would start. Only the package's own metrics: what else the
 * program measures is not for this port.
 */
const prometheus = Effect.gen(function* () {
  const reader = new PrometheusExporter({ preventServerStart: true })
  const serializer = new PrometheusSerializer(undefined, false, undefined, true, true)
  yield* Telemetry.registerReader(reader)
  return Effect.map(
    Effect.promise(() => reader.collect()),
    ({ resourceMetrics: { resource, scopeMetrics } }) => {
      const own = scopeMetrics.map(({ metrics, scope }) => ({
        scope,
        metrics: metrics.filter(({ descriptor }) => descriptor.name.startsWith(Metrics.PREFIX))
      }))
      return HttpServerResponse.text(serializer.serialize({ resource, scopeMetrics: own }), {
        contentType: CONTENT_TYPE
      })
    }
  )
}).pipe(Effect.provide(Resource.layerEmpty))
