/**
 * The users, and the events that tell of them.
 *
 * Each change and its event are one transaction: a user who is in the table has an event that will be in ClickHouse,
 * and a request that fails, wherever it fails, leaves neither.
 */
import { SqlClient, SqlSchema } from "@effect/sql"
import { EventPublisher, transaction } from "clickhouse-outbox"
import { Effect, Option, Schema } from "effect"
import { UserCreated } from "./Events.ts"
import { EmailTaken, Profile, type Registration, User, UserId, UserNotFound } from "./User.ts"

export class Users extends Effect.Service<Users>()("examples/Users", {
  dependencies: [EventPublisher.layerConfig],
  effect: Effect.gen(function* () {
    const sql = yield* SqlClient.SqlClient
    const publisher = yield* EventPublisher.EventPublisher

    const insert = SqlSchema.findOne({
      Request: Profile,
      Result: User,
      execute: (profile) => sql`
        INSERT INTO users ${sql.insert(profile)}
        ON CONFLICT (lower(email)) DO NOTHING
        RETURNING *
      `
    })

    const insertAll = SqlSchema.findAll({
      Request: Schema.Array(Profile),
      Result: User,
      execute: (profiles) => sql`
        INSERT INTO users ${sql.insert(profiles)}
        ON CONFLICT (lower(email)) DO NOTHING
        RETURNING *
      `
    })

    const creditInvitation = SqlSchema.findOne({
      Request: UserId,
      Result: User,
      execute: (id) => sql`UPDATE users SET invitations = invitations + 1 WHERE id = ${id} RETURNING *`
    })

    const select = SqlSchema.findOne({
      Request: UserId,
      Result: User,
      execute: (id) => sql`SELECT * FROM users WHERE id = ${id}`
    })

    /** Creates a user and publishes `user_created`. If nobody has the id `invitedBy`, neither has happened. */
    const create = Effect.fn("Users.create")(
      function* ({ invitedBy, ...profile }: Registration) {
        const inserted = yield* insert(profile)
        if (Option.isNone(inserted)) return yield* new EmailTaken({ email: profile.email })
        const user = inserted.value
        if (invitedBy === undefined) {
          yield* publisher.publish(UserCreated({ userId: user.id, ...profile, origin: "registration" }))
        } else {
          yield* publisher.publish(UserCreated({ userId: user.id, ...profile, origin: "invitation", invitedBy }))
          const inviter = yield* creditInvitation(invitedBy)
          if (Option.isNone(inviter)) return yield* new UserNotFound({ id: invitedBy })
        }
        return user
      },
      transaction,
      Effect.provideService(SqlClient.SqlClient, sql),
      Effect.catchTags({
        SqlError: Effect.die,
        ParseError: Effect.die,
        EventInvalid: Effect.die,
        TransactionFailed: Effect.die
      })
    )

    /** Creates those who are not users yet and publishes `user_created` for each of them: all or, if it fails, none. */
    const importAll = Effect.fn("Users.importAll")(
      function* (profiles: ReadonlyArray<Profile>) {
        const users = yield* insertAll(profiles)
        yield* publisher.publishAll(
          users.map(({ id: userId, invitations: _, ...profile }) =>
            UserCreated({ userId, ...profile, origin: "import" })
          )
        )
        return users.length
      },
      transaction,
      Effect.provideService(SqlClient.SqlClient, sql),
      Effect.orDie
    )

    const get = Effect.fn("Users.get")(
      function* (id: UserId) {
        return yield* Effect.flatten(select(id))
      },
      (effect, id) =>
        Effect.catchTags(effect, {
          NoSuchElementException: () => new UserNotFound({ id }),
          SqlError: Effect.die,
          ParseError: Effect.die
        })
    )

    return { create, importAll, get }
  })
}) {}
