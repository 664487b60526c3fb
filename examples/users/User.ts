/** What a user is, and the ways in which a request about users can fail. Each error carries its HTTP status. */
import { HttpApiSchema } from "@effect/platform"
import { Schema } from "effect"

export const UserId = Schema.UUID.pipe(Schema.brand("UserId"))
export type UserId = typeof UserId.Type

export const Email = Schema.String.pipe(
  Schema.pattern(/^[^\s@]+@[^\s@]+\.[^\s@]+$/, { description: "an e-mail address" }),
  Schema.maxLength(254),
  Schema.brand("Email")
)
export type Email = typeof Email.Type

/** ISO 3166-1 alpha-2, such as `FR`. */
export const Country = Schema.String.pipe(Schema.pattern(/^[A-Z]{2}$/), Schema.brand("Country"))
export type Country = typeof Country.Type

/** Without control characters. */
export const Name = Schema.NonEmptyTrimmedString.pipe(Schema.pattern(/^\P{Cc}+$/u), Schema.maxLength(100))

/** What is known of somebody who is not a user yet. */
export const Profile = Schema.Struct({ email: Email, name: Name, country: Country })
export type Profile = typeof Profile.Type

/** A request to become a user. Whoever is named in `invitedBy` is credited with the invitation. */
export const Registration = Schema.Struct({
  ...Profile.fields,
  invitedBy: Schema.optionalWith(UserId, { exact: true })
})
export type Registration = typeof Registration.Type

export class User extends Schema.Class<User>("User")({
  id: UserId,
  ...Profile.fields,
  /** How many users have come because of this one. */
  invitations: Schema.Int
}) {}

export class EmailTaken extends Schema.TaggedError<EmailTaken>()(
  "EmailTaken",
  { email: Email },
  HttpApiSchema.annotations({ status: 409 })
) {
  override get message() {
    return `There is a user with the e-mail ${this.email} already`
  }
}

export class UserNotFound extends Schema.TaggedError<UserNotFound>()(
  "UserNotFound",
  { id: UserId },
  HttpApiSchema.annotations({ status: 404 })
) {
  override get message() {
    return `There is no user ${this.id}`
  }
}
