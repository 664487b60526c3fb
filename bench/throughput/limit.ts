/**
 * What ClickHouse takes when nothing stands in front of it: the same bytes, from files on the same disk, into the same
 * table. No contestant can be faster than the fastest of these; each is a ratio to it.
 */
import { ClickHouse } from "clickhouse-outbox"
import { Effect } from "effect"
import { insertFile } from "../harness/Source.ts"
import { type Arena, type Contestant, EVERYTHING, startPrograms } from "./Contestant.ts"

const limit = {
  name: "limit",
  schema: undefined,
  most: EVERYTHING,
  prepare: () => Effect.void
}

/** The files of all events that the source has. */
const files = ({ source }: Arena, whole: boolean) => ({ FILES: JSON.stringify(whole ? [source.file] : source.files) })

export const contestants: ReadonlyArray<Contestant> = [
  {
    ...limit,
    variant: "file()",
    about: "ClickHouse reads the file itself, with its own blocks and threads",
    check: ({ file }) =>
      Effect.flatMap(ClickHouse.ClickHouse, ({ query }) =>
        Effect.mapError(
          query(`SELECT * FROM file('${file}', 'LineAsString') LIMIT 1`),
          () => new Error("ClickHouse cannot read the benchmark's files")
        )
      ),
    start: ({ source }) =>
      Effect.map(ClickHouse.ClickHouse, (clickHouse) => ({
        programs: [],
        go: clickHouse.command(insertFile(source.file)),
        ends: true
      }))
  },
  {
    ...limit,
    variant: "HTTP, ClickHouse's blocks",
    about: "one POST of the file, with ClickHouse's own settings",
    start: (arena) => startPrograms("limit", "limitDefault", 1, arena, files(arena, true))
  },
  {
    ...limit,
    variant: "HTTP, the relay's blocks",
    about: "two POSTs at a time of 100,000 rows, with the relay's code and settings",
    start: (arena) => startPrograms("limit", "limitBatches", 1, arena, files(arena, false))
  }
]
