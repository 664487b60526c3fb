/** The operator API's client, derived from its contract. */
import * as FetchHttpClient from "@effect/platform/FetchHttpClient"
import * as HttpApiClient from "@effect/platform/HttpApiClient"
import * as HttpClient from "@effect/platform/HttpClient"
import * as HttpClientRequest from "@effect/platform/HttpClientRequest"
import * as HttpClientResponse from "@effect/platform/HttpClientResponse"
import { Api } from "clickhouse-outbox/operator-api"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import { type ApiError, TimedOut, toApiError } from "./ApiError.ts"
import * as Session from "./session.ts"

const authorized = HttpClient.mapRequest((request: HttpClientRequest.HttpClientRequest) => {
  const token = Session.token.get()
  return token === null ? request : HttpClientRequest.bearerToken(request, token)
})

type Transform = (client: HttpClient.HttpClient) => HttpClient.HttpClient

const make = (transform: Transform = (client) => client) =>
  HttpApiClient.make(Api, {
    baseUrl: location.origin,
    transformClient: (client) => transform(authorized(client))
  }).pipe(Effect.provide(FetchHttpClient.layer), Effect.runSync)

export type Client = ReturnType<typeof make>

const client = make()

/** What a method of the client returns. Methods can return the response beside it, which nobody here asks for. */
export type Answer<Method extends (request: never) => Effect.Effect<unknown, unknown>> = Exclude<
  Effect.Effect.Success<ReturnType<Method>>,
  ReadonlyArray<unknown>
>

/** An answer, and the text that it was decoded from. */
export interface WithText<A> {
  readonly answer: A
  readonly text: string
}

/**
 * Sends `body` as it is, if there is one, and keeps the answer's text too. In text the numbers of an event keep every
 * digit, which JavaScript's numbers would not.
 */
export const asText = <A, E>(
  use: (client: Client) => Effect.Effect<A, E>,
  body?: string
): Effect.Effect<WithText<A>, E> =>
  Effect.suspend(() => {
    let text = ""
    const keeping = HttpClient.transformResponse(
      Effect.flatMap((response: HttpClientResponse.HttpClientResponse) =>
        Effect.map(response.text, (read) => {
          text = read
          // A body can be read once.
          return HttpClientResponse.fromWeb(
            response.request,
            new Response(read, { status: response.status, headers: response.headers })
          )
        })
      )
    )
    const sending = HttpClient.mapRequest((request: HttpClientRequest.HttpClientRequest) =>
      body === undefined ? request : HttpClientRequest.bodyText(request, body, "application/json")
    )
    return Effect.map(use(make((client) => keeping(sending(client)))), (answer) => ({ answer, text }))
  })

interface RequestOptions {
  readonly signal?: AbortSignal
  /** How long an answer may take. */
  readonly timeout?: Duration.Duration
  /** Whether something is to be changed. */
  readonly isChange?: boolean
}

const TIMEOUT = Duration.seconds(30)
/** Replaying very many takes a while. */
const CHANGE_TIMEOUT = Duration.minutes(2)

/** Rejects with an {@link ApiError} and nothing else. */
export const request = async <A, E>(
  use: (client: Client) => Effect.Effect<A, E>,
  { isChange = false, timeout = isChange ? CHANGE_TIMEOUT : TIMEOUT, signal }: RequestOptions = {}
): Promise<A> => {
  const answer = await Effect.runPromise(
    use(client).pipe(
      Effect.timeoutFail({ duration: timeout, onTimeout: () => new TimedOut({ isChange, timeout }) }),
      Effect.mapError(toApiError),
      Effect.either
    ),
    signal === undefined ? {} : { signal }
  )
  if (Either.isRight(answer)) return answer.right
  if (answer.left._tag === "Problem" && answer.left.status === 401) Session.locked.lock()
  throw answer.left satisfies ApiError
}
