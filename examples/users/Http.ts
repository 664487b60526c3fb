/** The contract's implementation. A request that does not match it is answered with 400 before it comes here. */
import { HttpApiBuilder, HttpMiddleware, HttpServer } from "@effect/platform"
import { Effect, Layer } from "effect"
import { Api } from "./Api.ts"
import { Users } from "./Users.ts"

const UsersLive = HttpApiBuilder.group(Api, "users", (handlers) =>
  Effect.map(Users, (users) =>
    handlers
      .handle("create", ({ payload }) => users.create(payload))
      .handle("import", ({ payload }) => Effect.map(users.importAll(payload), (imported) => ({ imported })))
      .handle("get", ({ path }) => users.get(path.id))
  )
).pipe(Layer.provide(Users.Default))

export const HttpLive = HttpApiBuilder.serve(HttpMiddleware.logger).pipe(
  Layer.provide(HttpApiBuilder.api(Api)),
  Layer.provide(UsersLive),
  HttpServer.withLogAddress
)
