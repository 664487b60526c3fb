/** The service's HTTP contract: what its server implements and its clients are derived from. */
import { HttpApi, HttpApiEndpoint, HttpApiGroup } from "@effect/platform"
import { Schema } from "effect"
import { EmailTaken, Profile, Registration, User, UserId, UserNotFound } from "./User.ts"

export class UsersApi extends HttpApiGroup.make("users")
  .add(
    HttpApiEndpoint.post("create", "/users")
      .setPayload(Registration)
      .addSuccess(User, { status: 201 })
      .addError(EmailTaken)
      .addError(UserNotFound)
  )
  .add(
    HttpApiEndpoint.post("import", "/users/import")
      .setPayload(Schema.NonEmptyArray(Profile).pipe(Schema.maxItems(5_000)))
      .addSuccess(Schema.Struct({ imported: Schema.Int }))
  )
  .add(
    HttpApiEndpoint.get("get", "/users/:id")
      .setPath(Schema.Struct({ id: UserId }))
      .addSuccess(User)
      .addError(UserNotFound)
  ) {}

export class Api extends HttpApi.make("users").add(UsersApi) {}
