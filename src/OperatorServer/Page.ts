/** Lists page by page: by key, so that what is added meanwhile shifts nothing. */
import * as Arr from "effect/Array"
import * as Chunk from "effect/Chunk"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Stream from "effect/Stream"
import { DEFAULT_LIMIT, type Page } from "../schema/columns.ts"

type Read<A, Key, E> = (page: Page<Key>) => Effect.Effect<ReadonlyArray<A>, E>

/** A page, and the key that the following one begins after; null if this is the last. */
export const page = <A, Key extends number, E>(
  read: Read<A, Key, E>,
  { after, limit = DEFAULT_LIMIT }: Page<Key>,
  keyOf: (item: A) => Key
): Effect.Effect<{ readonly items: ReadonlyArray<A>; readonly next: Key | null }, E> =>
  Effect.map(read({ after, limit: limit + 1 }), (rows) => cut(rows, rows.slice(0, limit), keyOf))

const cut = <A, Key>(found: ReadonlyArray<A>, items: ReadonlyArray<A>, keyOf: (item: A) => Key) => ({
  items,
  next: found.length === items.length ? null : Option.getOrNull(Option.map(Arr.last(items), keyOf))
})

/** Rows of up to 1 MiB and more are held in memory at a time. */
const STEP = 10

const MAX_CHARACTERS = 8 * 1024 * 1024

/** Like {@link page}, but a page of heavy items ends early: the memory of a relay is not for whoever asks for much. */
export const heavyPage = <A, Key extends number, E>(
  read: Read<A, Key, E>,
  { after, limit = DEFAULT_LIMIT }: Page<Key>,
  keyOf: (item: A) => Key,
  lengthOf: (item: A) => number
): Effect.Effect<{ readonly items: ReadonlyArray<A>; readonly next: Key | null }, E> =>
  Stream.paginateChunkEffect(after, (after) =>
    Effect.map(read({ after, limit: STEP }), (rows) => [
      Chunk.unsafeFromArray(rows),
      rows.length < STEP ? Option.none() : Option.map(Arr.last(rows), (last) => keyOf(last))
    ])
  ).pipe(
    Stream.mapAccum(0, (before, item) => [before + lengthOf(item), { item, fits: before < MAX_CHARACTERS }]),
    Stream.take(limit + 1),
    Stream.takeUntil(({ fits }) => !fits),
    Stream.runCollect,
    Effect.map((seen) => {
      const found = Chunk.toReadonlyArray(seen)
      const items = found.filter(({ fits }) => fits).slice(0, limit)
      return cut(
        found.map(({ item }) => item),
        items.map(({ item }) => item),
        keyOf
      )
    })
  )
