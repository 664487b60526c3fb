/**
 * Plays the people who use the application: sends it, over HTTP, what browsers and back offices send.
 *
 * One in ten events comes from a registration of its own, the others from imports. In between come wrong requests: an
 * e-mail that is taken, a body that is no user, and an invitation by nobody. The application notices the last only after
 * it has published, and rolls back. None of these leaves an event.
 */
import { HttpApiClient, HttpClient, HttpClientRequest, HttpServer } from "@effect/platform"
import { Array, Effect, Option, Random, Ref, Schema, Stream } from "effect"
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
const SHARE_OF_INVITED = 0.25
/** One in so many registrations comes with a mistake. */
const MISTAKES_EVERY = 20
/** An id that no user has. */
export const NOBODY = "00000000-0000-4000-8000-000000000000"

/** @param run makes the e-mail addresses different from those of other runs */
export const make = (run: string) =>
  Effect.gen(function* () {
    const baseUrl = yield* HttpServer.addressFormattedWith(Effect.succeed)
    const { users } = yield* HttpApiClient.make(Api, { baseUrl })
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
      const inviter = yield* Ref.get(lastUser)
      const invited = (yield* Random.next) < SHARE_OF_INVITED
      const { id } = yield* users.create({
        payload: Option.isSome(inviter) && invited ? { ...profile, invitedBy: inviter.value } : profile
      })
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

    const registerAndErr = (number: number) =>
      Effect.gen(function* () {
        const profile = yield* register
        if (number % MISTAKES_EVERY === 1) yield* mistakes(profile)
      })

    // What was begun is finished, also when this is interrupted, so that what was published can be counted.
    const registerMany = (count: number) =>
      Stream.range(1, count).pipe(
        Stream.mapEffect((number) => Effect.uninterruptible(registerAndErr(number)), {
          concurrency: CONCURRENT_REGISTRATIONS,
          unordered: true
        }),
        Stream.runDrain
      )

    const importMany = (count: number) =>
      Effect.iterate(count, {
        while: (left) => left > 0,
        body: (left) =>
          Effect.gen(function* () {
            const payload = yield* Effect.all(Array.makeBy(Math.min(left, IMPORT_USERS), () => somebody))
            const { imported } = yield* users.import({ payload })
            return left - imported
          }).pipe(Effect.uninterruptible)
      })

    /** Sends requests until exactly so many events are published. */
    const publish = (events: number) => {
      const registrations = Math.ceil(events / 10)
      return Effect.all([registerMany(registrations), importMany(events - registrations)], {
        concurrency: "unbounded",
        discard: true
      })
    }

    return {
      publish,
      /** How many wrong requests got the error that they should. */
      refused: Ref.get(refused)
    }
  })

const FIRST_NAMES = Array.make("Ada", "Alan", "Barbara", "Donald", "Edsger", "Frances", "Grace", "Hedy", "Radia")
const LAST_NAMES = Array.make("Allen", "Dijkstra", "Hamilton", "Hopper", "Knuth", "Lamarr", "Liskov", "Turing")
/** Once for each share of the people. */
const COUNTRIES = Array.make("IN", "IN", "IN", "IN", "US", "US", "US", "BR", "BR", "NG", "NG", "DE", "FR", "GB", "JP")
