/** What an operator's command runs on: Postgres, and nothing but. */
import type * as SqlClient from "@effect/sql/SqlClient"
import * as Effect from "effect/Effect"
import * as FiberRef from "effect/FiberRef"
import type * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as LogLevel from "effect/LogLevel"
import * as Config from "../Config.ts"
import * as Postgres from "../Postgres.ts"
import { namePostgres } from "./PostgresFailed.ts"

/** What the services log of a change, the command prints. Whoever asks for more than usual gets it all. */
export const withoutEcho = <A, E, R>(effect: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> =>
  Effect.flatMap(FiberRef.get(FiberRef.currentMinimumLogLevel), (level) =>
    LogLevel.lessThan(level, LogLevel.Info) ? effect : Logger.withMinimumLogLevel(effect, LogLevel.Error)
  )

/** Runs a command on services that need Postgres. */
export const withServices =
  <Services, LayerError>(services: Layer.Layer<Services, LayerError, SqlClient.SqlClient>) =>
  <A, E, R>(command: Effect.Effect<A, E, R>) =>
    Effect.flatMap(Config.postgres, (config) =>
      command.pipe(Effect.provide(services), Effect.provide(Postgres.layerPinned(config)), namePostgres(config))
    ).pipe(withoutEcho)
