/** Lists page by page, by key: what is added meanwhile shifts nothing. And answers in which no digit is lost. */
import * as HttpServerResponse from "@effect/platform/HttpServerResponse"
import * as Arr from "effect/Array"
import * as Chunk from "effect/Chunk"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Stream from "effect/Stream"
import { fromRawMembers } from "../internal/jsonText.ts"
import { DEFAULT_LIMIT, type Page } from "../schema/columns.ts"

interface Row<Key> {
  readonly id: Key
}

type Read<A, Key, E> = (page: Page<Key>) => Effect.Effect<ReadonlyArray<A>, E>

interface Found<A, Key> {
  readonly items: ReadonlyArray<A>
  /** The key that the next page begins after; null if this is the last one. */
  readonly next: Key | null
}

export const page = <A extends Row<Key>, Key extends number, E>(
  read: Read<A, Key, E>,
  { after, limit = DEFAULT_LIMIT }: Page<Key>
): Effect.Effect<Found<A, Key>, E> =>
  Effect.map(read({ after, limit: limit + 1 }), (rows) => found(rows.slice(0, limit), rows.length > limit))

const found = <A extends Row<Key>, Key extends number>(items: ReadonlyArray<A>, isMore: boolean): Found<A, Key> => ({
  items,
  next: isMore ? Option.getOrNull(Option.map(Arr.last(items), ({ id }) => id)) : null
})

/** Rows that are in memory at a time: each may weigh more than 1 MiB. */
const HEAVY_ROWS = 10

const MAX_CHARACTERS = 8 * 1024 * 1024

/** Like {@link page}, but a page of heavy items ends early: a relay's memory is not for whoever asks for much. */
export const heavyPage = <A extends Row<Key>, Key extends number, E>(
  read: Read<A, Key, E>,
  { after, limit = DEFAULT_LIMIT }: Page<Key>,
  lengthOf: (item: A) => number
): Effect.Effect<Found<A, Key>, E> =>
  Stream.paginateChunkEffect(after, (after) =>
    Effect.map(read({ after, limit: HEAVY_ROWS }), (rows) => [
      Chunk.unsafeFromArray(rows),
      rows.length < HEAVY_ROWS ? Option.none() : Option.map(Arr.last(rows), ({ id }) => id)
    ])
  ).pipe(
    Stream.mapAccum(0, (before, item) => [before + lengthOf(item), { item, fits: before < MAX_CHARACTERS }]),
    Stream.take(limit + 1),
    Stream.takeUntil(({ fits }) => !fits),
    Stream.runCollect,
    Effect.map((seen) => {
      const items = Arr.filterMap(seen, ({ fits, item }) => (fits ? Option.some(item) : Option.none())).slice(0, limit)
      return found(items, items.length < seen.length)
    })
  )

/** A page whose items are JSON already, in a member called `name`, after the members of `rest`. */
export const toResponse = <A, Key extends number>(
  name: string,
  { items, next }: Found<A, Key>,
  toJson: (item: A) => string,
  rest: object = {}
): HttpServerResponse.HttpServerResponse =>
  json(
    fromRawMembers([
      ...Object.entries(rest).map(([name, value]) => [name, JSON.stringify(value)] as const),
      [name, `[${items.map(toJson).join()}]`],
      ["next", JSON.stringify(next)]
    ])
  )

export const json = (text: string): HttpServerResponse.HttpServerResponse =>
  HttpServerResponse.text(text, { contentType: "application/json" })
