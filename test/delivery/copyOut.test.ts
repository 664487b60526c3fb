/** Rows of COPY as bytes, however the network cuts what Postgres sends. */
import { Duplex } from "node:stream"
import * as SqlClient from "@effect/sql/SqlClient"
import { expect, it, layer } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as FastCheck from "effect/FastCheck"
import * as Ref from "effect/Ref"
import * as Stream from "effect/Stream"
import * as Pg from "pg"
import { CopyOut } from "../../src/Postgres/CopyOut.ts"
import { Postgres } from "../../src/Postgres.ts"
import * as Environment from "../support/environment.ts"

const message = (code: string, body: Buffer) => {
  const length = Buffer.alloc(4)
  length.writeUInt32BE(body.length + 4)
  return Buffer.concat([Buffer.from(code), length, body])
}

/** What a server may send: rows, and now and then something for pg. */
const messages = FastCheck.array(
  FastCheck.oneof(
    { weight: 5, arbitrary: FastCheck.uint8Array({ maxLength: 40 }).map((row) => ["d", Buffer.from(row)] as const) },
    { weight: 1, arbitrary: FastCheck.constantFrom("N", "S").map((code) => [code, Buffer.from("said")] as const) }
  ),
  { maxLength: 30 }
)

const cut = (bytes: Buffer, sizes: ReadonlyArray<number>): ReadonlyArray<Buffer> => {
  const [size, ...rest] = sizes
  if (size === undefined || size >= bytes.length) return bytes.length === 0 ? [] : [bytes]
  // Each chunk has memory of its own, as what is read from a socket has.
  return [Buffer.from(bytes.subarray(0, size)), ...cut(bytes.subarray(size), rest)]
}

it("gives rows in one piece and pg everything else, wherever a chunk ends", async () => {
  await FastCheck.assert(
    FastCheck.asyncProperty(
      messages,
      FastCheck.array(FastCheck.integer({ min: 1, max: 50 }), { maxLength: 200 }),
      async (sent, sizes) => {
        const stream = new Duplex({ read: () => {}, write: (_chunk, _encoding, done) => done() })
        const forPg: Array<Buffer> = []
        // Not copied: pg keeps what it gets until it has the whole message.
        const pg = (chunk: Buffer) => forPg.push(chunk)
        stream.on("data", pg)
        const copy = new CopyOut("COPY …")
        copy.submit(new Pg.Connection({ stream: () => stream }))
        const beginning = message("H", Buffer.from([0, 0, 0]))
        const end = Buffer.concat([message("c", Buffer.alloc(0)), message("C", Buffer.from("COPY 1\0"))])
        const bytes = Buffer.concat([beginning, ...sent.map(([code, body]) => message(code, body)), end])
        for (const chunk of cut(bytes, sizes)) stream.push(chunk)
        const rows = Buffer.concat(await copy.toArray())
        stream.push(message("Z", Buffer.from("I")))
        await new Promise(setImmediate)
        expect(rows).toEqual(Buffer.concat(sent.filter(([code]) => code === "d").map(([, body]) => body)))
        const others = sent.filter(([code]) => code !== "d").map(([code, body]) => message(code, body))
        const after = message("Z", Buffer.from("I"))
        expect(Buffer.concat(forPg)).toEqual(Buffer.concat([beginning, ...others, end, after]))
        expect(stream.listeners("data")).toEqual([pg])
      }
    )
  )
})

const copied = (query: string) =>
  Effect.gen(function* () {
    const postgres = yield* Postgres
    const counts: Array<number> = []
    const onComplete = (rowCount: number) => Effect.sync(() => counts.push(rowCount))
    const chunks = yield* Stream.runCollect(postgres.copyOut({ query, settings: "", onComplete }))
    return { text: Buffer.concat([...chunks]).toString(), counts }
  })

layer(Environment.layer(), { excludeTestServices: true })((it) => {
  it.effect("Postgres is copied from row by row as it prints them: none, small ones and such as no chunk holds", () =>
    Effect.gen(function* () {
      const rows = (sizes: string) =>
        `SELECT n, repeat(chr(97 + n % 26), size) FROM (VALUES ${sizes}) AS rows (n, size)`
      const sizes = [0, 1, 300_000, 2, 65_536, 65_535, 1_000_000, 0, 7]
      const values = sizes.map((size, index) => `(${index}, ${size})`).join(", ")
      const expected = sizes.map((size, n) => `${n}\t${String.fromCharCode(97 + (n % 26)).repeat(size)}\n`)
      const { counts, text } = yield* copied(rows(values))
      expect(text === expected.join("")).toBe(true)
      expect(counts).toEqual([sizes.length])
      expect(yield* copied(`${rows(values)} WHERE false`)).toEqual({ text: "", counts: [0] })
    })
  )

  it.effect("Postgres says what else it has to say while rows come, and the connection goes on being used", () =>
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      yield* sql.unsafe(`
        CREATE FUNCTION public.noisy(n integer) RETURNS integer LANGUAGE plpgsql
        AS $$ BEGIN RAISE WARNING 'row %', n; RETURN n; END $$`)
      for (const time of [1, 2, 3]) {
        const { text } = yield* copied(`SELECT public.noisy(n) FROM generate_series(1, ${time * 1_000}) AS n`)
        expect(text.split("\n").length).toBe(time * 1_000 + 1)
        expect(yield* sql`SELECT 1 AS one`).toEqual([{ one: 1 }])
      }
    })
  )

  it.effect("Postgres is left as it was by a stream that is not read to its end", () =>
    Effect.gen(function* () {
      const postgres = yield* Postgres
      const sql = yield* SqlClient.SqlClient
      const query = "SELECT repeat('x', 1000) FROM generate_series(1, 100000)"
      for (const _ of Array.from({ length: 20 })) {
        const rows = postgres.copyOut({ query, settings: "", onComplete: () => Effect.die("It was not completed") })
        yield* Stream.runDrain(Stream.take(rows, 1))
      }
      expect(yield* postgres.connections).toMatchObject({ used: 0, waiting: 0 })
      expect(yield* sql`SELECT 1 AS one`).toEqual([{ one: 1 }])
    })
  )

  it.effect("Postgres whose connection breaks under a slow reader fails the stream", () =>
    Effect.gen(function* () {
      const postgres = yield* Postgres
      const sql = yield* SqlClient.SqlClient
      const query = "SELECT repeat('x', 1000) FROM generate_series(1, 100000)"
      const isSlow = yield* Ref.make(true)
      const breakOff = sql`
        SELECT pg_terminate_backend(pid) FROM pg_stat_activity
        WHERE datname = current_database() AND query LIKE 'COPY %'
      `
      const error = yield* postgres.copyOut({ query, settings: "", onComplete: () => Effect.void }).pipe(
        Stream.runForEach(() => Effect.whenEffect(Effect.delay(breakOff, "300 millis"), Ref.getAndSet(isSlow, false))),
        Effect.flip
      )
      expect(error._tag).toBe("SqlError")
      expect(yield* postgres.connections).toMatchObject({ used: 0, waiting: 0 })
      expect(yield* sql`SELECT 1 AS one`).toEqual([{ one: 1 }])
    })
  )

  it.effect("Postgres that fails after some rows fails the stream, with what it said", () =>
    Effect.gen(function* () {
      const error = yield* Effect.flip(copied("SELECT 1 / (200000 - n) FROM generate_series(1, 300000) AS n"))
      expect(String(error.cause)).toContain("division by zero")
    })
  )
})
