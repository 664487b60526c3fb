/**
 * Plays the people who use the application: sends it, over HTTP, what browsers and back offices send.
 *
 * One in five events comes of a registration of its own, the others of imports. Wrong requests are sent in between: an
 * e-mail that is taken, a body that is no user, and an invitation by nobody, which the application finds out only after
 * it has published, so that it rolls back. None of these leaves an event.
 */
import { HttpApiClient, HttpClient, HttpClientRequest, HttpServer } from "@effect/platform"
import { Array, Effect, Option, Random, Ref, Schema } from "effect"
import { Api } from "../users/Api.ts"
import { Country, Email, type Profile, type UserId } from "../users/User.ts"

/** The application did not answer as it should. */
export class UnexpectedAnswer extends Schema.TaggedError<UnexpectedAnswer>()("UnexpectedAnswer", {
  request: Schema.String,
  expected: Schema.Int,
  actual: Schema.Int
}) {
  override get message() {
    return `The application answered ${this.request} with ${this.actual} instead of ${this.expected}`
  }
}

const IMPORT_USERS = 1_000
const CONCURRENT_REGISTRATIONS = 16
const REGISTRATIONS_PER_MISTAKE = 20
const NOBODY = "00000000-0000-4000-8000-000000000000"

/** @param run makes the e-mail addresses different from those of other runs */
export const make = (run: string) =>
  Effect.gen(function* () {
    const baseUrl = yield* HttpServer.addressFormattedWith(Effect.succeed)
    const users = yield* HttpApiClient.group(Api, { group: "users", baseUrl })
    const http = yield* HttpClient.HttpClient
    const people = yield* Ref.make(0)
    const lastUser = yield* Ref.make(Option.none<UserId>())
    const refused = yield* Ref.make(0)

    const somebody: Effect.Effect<Profile> = Effect.gen(function* () {
      const number = yield* Ref.updateAndGet(people, (n) => n + 1)
      const firstName = yield* Random.choice(FIRST_NAMES)
      const lastName = yield* Random.choice(LAST_NAMES)
      return {
        email: Email.make(`${firstName}.${lastName}.${number}@${run}.example`.toLowerCase()),
        name: `${firstName} ${lastName}`,
        country: Country.make(yield* Random.choice(COUNTRIES))
      }
    })

    const register = Effect.gen(function* () {
      const profile = yield* somebody
      const inviter = Option.filter(yield* Ref.get(lastUser), yield* Effect.map(Random.next, (x) => () => x < 0.25))
      const invitedBy = Option.match(inviter, { onNone: () => ({}), onSome: (id) => ({ invitedBy: id }) })
      const { id } = yield* users.create({ payload: { ...profile, ...invitedBy } })
      yield* Ref.set(lastUser, Option.some(id))
      return profile
    })

    const mistake = (request: string, body: unknown, expected: number) =>
      Effect.gen(function* () {
        const response = yield* http.execute(
          HttpClientRequest.post(`${baseUrl}/users`).pipe(HttpClientRequest.bodyUnsafeJson(body))
        )
        yield* response.text
        if (response.status !== expected) {
          return yield* new UnexpectedAnswer({ request, expected, actual: response.status })
        }
        yield* Ref.update(refused, (n) => n + 1)
      })

    const mistakes = (taken: Profile) =>
      Effect.gen(function* () {
        yield* mistake("a registration whose e-mail is taken", taken, 409)
        yield* mistake("a registration without an e-mail", { name: "Nemo" }, 400)
        yield* mistake("an invitation by nobody", { ...(yield* somebody), invitedBy: NOBODY }, 404)
      })

    const registration = (number: number) =>
      Effect.tap(register, (profile) => (number % REGISTRATIONS_PER_MISTAKE === 0 ? mistakes(profile) : Effect.void))

    const importUsers = (count: number) =>
      Effect.gen(function* () {
        const payload = yield* Effect.all(Array.makeBy(count, () => somebody))
        return yield* users.import({ payload })
      })

    /** Has exactly so many events published. Once begun, a request is waited for, also if this is interrupted. */
    const publish = (events: number) => {
      const registrations = Math.ceil(events / 5)
      const imports = Array.unfold(events - registrations, (left) =>
        left > 0 ? Option.some([Math.min(left, IMPORT_USERS), left - IMPORT_USERS] as const) : Option.none()
      )
      return Effect.all(
        [
          Effect.forEach(Array.makeBy(registrations, registration), Effect.uninterruptible, {
            concurrency: CONCURRENT_REGISTRATIONS,
            discard: true
          }),
          Effect.forEach(imports, (count) => Effect.uninterruptible(importUsers(count)), { discard: true })
        ],
        { concurrency: "unbounded", discard: true }
      )
    }

    /** How many requests were answered with the error they deserved. */
    return { publish, refused: Ref.get(refused) }
  })

const FIRST_NAMES = ["Ada", "Alan", "Barbara", "Donald", "Edsger", "Frances", "Grace", "Hedy", "Margaret", "Radia"]
const LAST_NAMES = ["Allen", "Dijkstra", "Hamilton", "Hopper", "Knuth", "Lamarr", "Liskov", "Lovelace", "Turing"]
/** More often than once: where more people come from. */
const COUNTRIES = ["IN", "IN", "IN", "IN", "US", "US", "US", "BR", "BR", "NG", "NG", "DE", "FR", "GB", "JP", "NZ"]
