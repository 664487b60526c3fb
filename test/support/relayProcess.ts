/** A relay as a service of its own, configured by the environment; see `relay.ts`. */
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as Config from "../../src/Config.ts"
import * as Postgres from "../../src/Postgres.ts"
import * as Relay from "../../src/Relay.ts"

const logLevel = Layer.unwrapEffect(Effect.map(Config.log, ({ level }) => Logger.minimumLogLevel(level)))

Layer.launch(Relay.layerConfig).pipe(
  Effect.provide(Postgres.layerConfig),
  Effect.provide(logLevel),
  NodeRuntime.runMain
)
