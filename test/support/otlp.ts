/** What a collector is to a program that sends telemetry: OTLP over HTTP, decoded by OpenTelemetry's own messages. */
import * as Http from "node:http"
import { fileURLToPath } from "node:url"
import { gunzipSync } from "node:zlib"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import protobuf from "protobufjs"
import { listen } from "./listen.ts"

/** Bytes arrive here in Base64, and 64-bit numbers as decimal text. */
const Hex = Schema.transform(Schema.Uint8ArrayFromBase64, Schema.String, {
  decode: (bytes) => Buffer.from(bytes).toString("hex"),
  encode: (hex) => Buffer.from(hex, "hex")
})

const Value = Schema.Struct({
  stringValue: Schema.optional(Schema.String),
  boolValue: Schema.optional(Schema.Boolean),
  intValue: Schema.optional(Schema.NumberFromString),
  doubleValue: Schema.optional(Schema.Number)
})

const Scalar = Schema.transform(Value, Schema.typeSchema(Schema.Unknown), {
  decode: ({ boolValue, doubleValue, intValue, stringValue }): unknown =>
    stringValue ?? boolValue ?? intValue ?? doubleValue,
  encode: () => ({})
})

const Attributes = Schema.transform(
  Schema.Array(Schema.Struct({ key: Schema.String, value: Scalar })),
  Schema.typeSchema(Schema.Record({ key: Schema.String, value: Schema.Unknown })),
  {
    decode: (list) => Object.fromEntries(list.map(({ key, value }) => [key, value])),
    encode: () => []
  }
)

const Span = Schema.Struct({
  traceId: Hex,
  spanId: Hex,
  parentSpanId: Hex,
  name: Schema.String,
  kind: Schema.String,
  attributes: Attributes,
  links: Schema.Array(Schema.Struct({ traceId: Hex, spanId: Hex })),
  events: Schema.Array(Schema.Struct({ name: Schema.String, attributes: Attributes })),
  status: Schema.Struct({ code: Schema.String, message: Schema.String }),
  startTimeUnixNano: Schema.BigInt,
  endTimeUnixNano: Schema.BigInt
})

const LogRecord = Schema.Struct({
  timeUnixNano: Schema.BigInt,
  severityNumber: Schema.String,
  severityText: Schema.String,
  body: Scalar,
  attributes: Attributes,
  traceId: Hex,
  spanId: Hex
})

const NumberPoint = Schema.Struct({
  attributes: Attributes,
  asDouble: Schema.optional(Schema.Number),
  asInt: Schema.optional(Schema.NumberFromString)
})

const HistogramPoint = Schema.Struct({
  attributes: Attributes,
  count: Schema.NumberFromString,
  sum: Schema.Number,
  bucketCounts: Schema.Array(Schema.NumberFromString),
  explicitBounds: Schema.Array(Schema.Number)
})

const Metric = Schema.Struct({
  name: Schema.String,
  description: Schema.String,
  sum: Schema.optional(
    Schema.Struct({
      dataPoints: Schema.Array(NumberPoint),
      aggregationTemporality: Schema.String,
      isMonotonic: Schema.Boolean
    })
  ),
  gauge: Schema.optional(Schema.Struct({ dataPoints: Schema.Array(NumberPoint) })),
  histogram: Schema.optional(
    Schema.Struct({ dataPoints: Schema.Array(HistogramPoint), aggregationTemporality: Schema.String })
  )
})

const Resource = Schema.Struct({ attributes: Attributes })

type Resource = typeof Resource.Type
interface OfResource {
  readonly resource: (typeof Attributes)["Type"]
}
export interface Span extends OfResource, Schema.Schema.Type<typeof Span> {}
export interface LogRecord extends OfResource, Schema.Schema.Type<typeof LogRecord> {}
export interface Metric extends OfResource, Schema.Schema.Type<typeof Metric> {}

const Traces = Schema.Struct({
  resourceSpans: Schema.Array(
    Schema.Struct({ resource: Resource, scopeSpans: Schema.Array(Schema.Struct({ spans: Schema.Array(Span) })) })
  )
})
const Logs = Schema.Struct({
  resourceLogs: Schema.Array(
    Schema.Struct({
      resource: Resource,
      scopeLogs: Schema.Array(Schema.Struct({ logRecords: Schema.Array(LogRecord) }))
    })
  )
})
const Metrics = Schema.Struct({
  resourceMetrics: Schema.Array(
    Schema.Struct({ resource: Resource, scopeMetrics: Schema.Array(Schema.Struct({ metrics: Schema.Array(Metric) })) })
  )
})

const root = new protobuf.Root()
root.resolvePath = (_, target) => fileURLToPath(new URL(`./otlp/${target}`, import.meta.url))
root.loadSync(
  ["trace", "logs", "metrics"].map((signal) => `opentelemetry/proto/collector/${signal}/v1/${signal}_service.proto`)
)

/** Decodes a request whole, or throws. */
const decoder = <A, I>(message: string, schema: Schema.Schema<A, I>) => {
  const type = root.lookupType(`opentelemetry.proto.collector.${message}`)
  const decode = Schema.decodeUnknownSync(schema)
  return (body: Uint8Array): A =>
    decode(
      type.toObject(type.decode(body), {
        arrays: true,
        bytes: String,
        defaults: true,
        enums: String,
        longs: String
      })
    )
}

const decodeTraces = decoder("trace.v1.ExportTraceServiceRequest", Traces)
const decodeLogs = decoder("logs.v1.ExportLogsServiceRequest", Logs)
const decodeMetrics = decoder("metrics.v1.ExportMetricsServiceRequest", Metrics)

export interface Request {
  readonly path: string
  readonly headers: Http.IncomingHttpHeaders
  /** Decompressed. Texts are in a protobuf message as they are. */
  readonly body: Buffer
}

const of = <A extends object>({ attributes: resource }: Resource, items: ReadonlyArray<A>) =>
  items.map((item) => ({ ...item, resource }))

const spansOf = ({ body }: Request): ReadonlyArray<Span> =>
  decodeTraces(body).resourceSpans.flatMap(({ resource, scopeSpans }) =>
    scopeSpans.flatMap(({ spans }) => of(resource, spans))
  )

const logsOf = ({ body }: Request): ReadonlyArray<LogRecord> =>
  decodeLogs(body).resourceLogs.flatMap(({ resource, scopeLogs }) =>
    scopeLogs.flatMap(({ logRecords }) => of(resource, logRecords))
  )

const metricsOf = ({ body }: Request): ReadonlyArray<Metric> =>
  decodeMetrics(body).resourceMetrics.flatMap(({ resource, scopeMetrics }) =>
    scopeMetrics.flatMap(({ metrics }) => of(resource, metrics))
  )

/** What becomes of a request. Only what is taken counts as arrived. */
export type Behaviour = "take" | "refuse" | "hang up" | "say nothing"

export interface Receiver {
  readonly url: string
  readonly behave: (behaviour: Behaviour) => Effect.Effect<void>
  /** Every request that was taken, in the order they came. */
  readonly requests: Effect.Effect<ReadonlyArray<Request>>
  /** How often somebody asked, taken or not. */
  readonly asked: Effect.Effect<number>
  readonly connections: Effect.Effect<number>
  readonly spans: Effect.Effect<ReadonlyArray<Span>>
  readonly logs: Effect.Effect<ReadonlyArray<LogRecord>>
  /** Of the last request of each process: counters and histograms are sums since it started. */
  readonly metrics: Effect.Effect<ReadonlyArray<Metric>>
}

/** Listens on loopback until the scope closes. Takes everything sent to `/v1/…`, or to `paths`. */
export const make = (paths: Readonly<Record<string, "traces" | "logs" | "metrics">> = {}) =>
  Effect.gen(function* () {
    const known: typeof paths = { "/v1/traces": "traces", "/v1/logs": "logs", "/v1/metrics": "metrics", ...paths }
    const requests: Array<Request> = []
    let behaviour: Behaviour = "take"
    let asked = 0
    let connections = 0

    const take = (request: Http.IncomingMessage, bytes: Buffer): number => {
      const { headers, method, url = "" } = request
      if (method !== "POST" || known[url] === undefined) return 404
      if (headers["content-type"] !== "application/x-protobuf") return 415
      requests.push({ path: url, headers, body: headers["content-encoding"] === "gzip" ? gunzipSync(bytes) : bytes })
      return 200
    }

    const server = Http.createServer((request, response) => {
      const chunks: Array<Uint8Array> = []
      request.on("error", () => {})
      request.on("data", (chunk: Uint8Array) => chunks.push(chunk))
      request.on("end", () => {
        asked += 1
        if (behaviour === "hang up") request.socket.destroy()
        else if (behaviour === "refuse") response.writeHead(503).end()
        // An empty body is an empty message, which says that nothing was rejected.
        else if (behaviour === "take") response.writeHead(take(request, Buffer.concat(chunks))).end()
      })
    }).on("connection", () => {
      connections += 1
    })
    const port = yield* listen(server)

    const all = <A>(signal: "traces" | "logs" | "metrics", decode: (request: Request) => ReadonlyArray<A>) =>
      Effect.sync(() => requests.filter(({ path }) => known[path] === signal).map(decode))
    const instanceOf = ([first]: ReadonlyArray<OfResource>) => first?.resource["service.instance.id"]

    const receiver: Receiver = {
      url: `http://127.0.0.1:${port}`,
      behave: (next) =>
        Effect.sync(() => {
          behaviour = next
        }),
      requests: Effect.sync(() => [...requests]),
      asked: Effect.sync(() => asked),
      connections: Effect.sync(() => connections),
      spans: Effect.map(all("traces", spansOf), (requests) => requests.flat()),
      logs: Effect.map(all("logs", logsOf), (requests) => requests.flat()),
      metrics: Effect.map(all("metrics", metricsOf), (requests) =>
        [...new Map(requests.map((metrics) => [instanceOf(metrics), metrics])).values()].flat()
      )
    }
    return receiver
  })

/** A sum's or a gauge's value, added up over its labels; none if it was not sent. */
export const valueOf = (metrics: ReadonlyArray<Metric>, name: string): Option.Option<number> => {
  const points = metrics
    .filter((metric) => metric.name === name)
    .flatMap(({ gauge, sum }) => [...(gauge?.dataPoints ?? []), ...(sum?.dataPoints ?? [])])
  return points.length === 0
    ? Option.none()
    : Option.some(points.reduce((total, { asDouble = 0, asInt = 0 }) => total + asDouble + asInt, 0))
}
