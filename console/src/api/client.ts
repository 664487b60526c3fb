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
import { type AskError, Silent, toAskError } from "./AskError.ts"
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

/** What a method of the client comes to, without the response that it can be asked for beside it. */
export type Answer<Method extends (request: never) => Effect.Effect<unknown, unknown>> = Exclude<
  Effect.Effect.Success<ReturnType<Method>>,
  ReadonlyArray<unknown>
>

/** What was answered, and the text that it came as. */
export interface WithText<A> {
  readonly answer: A
  readonly text: string
}

/**
 * Asks with this text as the request's body, if there is one, and keeps the answer's text too: the numbers of an event
 * keep every digit that they are written with, as JavaScript's own would not.
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

interface Asking {
  readonly signal?: AbortSignal
  /** How long an answer may take. */
  readonly patience?: Duration.Duration
  /** Whether something is to be changed. */
  readonly isChange?: boolean
}

const PATIENCE = Duration.seconds(30)
/** Replaying very many takes a while. */
const CHANGE_PATIENCE = Duration.minutes(2)

/** Rejects with an {@link AskError} and nothing else. */
export const ask = async <A, E>(
  use: (client: Client) => Effect.Effect<A, E>,
  { isChange = false, patience = isChange ? CHANGE_PATIENCE : PATIENCE, signal }: Asking = {}
): Promise<A> => {
  const answer = await Effect.runPromise(
    use(client).pipe(
      Effect.timeoutFail({ duration: patience, onTimeout: () => new Silent({ isChange, patience }) }),
      Effect.mapError(toAskError),
      Effect.either
    ),
    signal === undefined ? {} : { signal }
  )
  if (Either.isRight(answer)) return answer.right
  if (answer.left._tag === "Problem" && answer.left.status === 401) Session.locked.lock()
  throw answer.left satisfies AskError
}
