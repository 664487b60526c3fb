/** The operator API's client, derived from its contract. */
import * as FetchHttpClient from "@effect/platform/FetchHttpClient"
import * as HttpApiClient from "@effect/platform/HttpApiClient"
import * as HttpClient from "@effect/platform/HttpClient"
import * as HttpClientRequest from "@effect/platform/HttpClientRequest"
import { Api } from "clickhouse-outbox/operator-api"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import { type AskError, toAskError } from "./AskError.ts"
import * as Session from "./session.ts"

const authorized = HttpClient.mapRequest((request: HttpClientRequest.HttpClientRequest) => {
  const token = Session.token.get()
  return token === null ? request : HttpClientRequest.bearerToken(request, token)
})

const make = (transform: (client: HttpClient.HttpClient) => HttpClient.HttpClient = (client) => client) =>
  HttpApiClient.make(Api, {
    baseUrl: location.origin,
    transformClient: (client) => transform(authorized(client))
  }).pipe(Effect.provide(FetchHttpClient.layer), Effect.runSync)

export type Client = ReturnType<typeof make>

const client = make()

/** What a method of the client comes to, without the response that it can be asked for beside it. */
export type Answer<Method extends (request: never) => Effect.Effect<unknown, unknown>> = Exclude<
  Effect.Effect.Success<ReturnType<Method>>,
  ReadonlyArray<unknown>
>

/**
 * The same, which sends this text as the body of its request: the numbers of an event keep every digit that they are
 * written with, as JavaScript's own would not.
 */
export const sending = (json: string): Client =>
  make(HttpClient.mapRequest(HttpClientRequest.bodyText(json, "application/json")))

/** Rejects with an {@link AskError} and nothing else. */
export const ask = async <A, E>(
  use: (client: Client) => Effect.Effect<A, E>,
  { of = client, signal }: { readonly of?: Client; readonly signal?: AbortSignal } = {}
): Promise<A> => {
  const answer = await Effect.runPromise(
    use(of).pipe(Effect.mapError(toAskError), Effect.either),
    signal === undefined ? {} : { signal }
  )
  if (Either.isRight(answer)) return answer.right
  if (answer.left._tag === "Problem" && answer.left.status === 401) Session.locked.lock()
  throw answer.left satisfies AskError
}
