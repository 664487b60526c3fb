/**
 * What `COPY … TO STDOUT` prints, as a stream of bytes.
 *
 * Postgres sends each row as a message of its own. This takes them apart without making an object of each: the rows of
 * a chunk are moved together within it, over the headers between them. pg-copy-streams slices a buffer off for each row,
 * which garbage collection made a fifth of the relay's CPU. Everything that is not a row goes on to pg, whose parser
 * answers the server before and after.
 */
import { Readable } from "node:stream"
import type * as Pg from "pg"

/** https://www.postgresql.org/docs/current/protocol-message-formats.html */
const COPY_DATA = "d".charCodeAt(0)
const COPY_DONE = "c".charCodeAt(0)
/** CopyOutResponse, ParameterStatus, NoticeResponse, NotificationResponse: they may come before rows or between them. */
const BESIDES = Array.from("HSNA", (code) => code.charCodeAt(0))
/** A byte that says what the message is, and four with the length of what follows it, themselves included. */
const HEADER_BYTES = 5

type Listener = (chunk: Buffer) => void

const isListener = (value: unknown): value is Listener => typeof value === "function"

/** Ends only after the server has said that these were all the rows. Fails if it says that something went wrong. */
export class CopyOut extends Readable implements Pg.Submittable {
  /** Known once the server has confirmed the copy, which is after the last byte. */
  rowCount = 0
  readonly #statement: string
  /** The beginning of a header whose rest is in the next chunk. */
  #header: Buffer<ArrayBufferLike> = Buffer.alloc(0)
  /** What is still to come of the message that was begun, and whether it is a row. */
  #missing = 0
  #isRow = false
  #pause = () => {}
  #resume = () => {}
  /** pg's parser. */
  #passOn = (_bytes: Buffer) => {}
  /** From here on the server's answers are pg's. */
  #detach = () => {}

  constructor(statement: string) {
    super()
    this.#statement = statement
  }

  submit(connection: Pg.Connection): void {
    const { stream } = connection
    const listeners = stream.listeners("data").filter(isListener)
    const onData = (chunk: Buffer) => this.#take(chunk)
    this.#passOn = (bytes) => {
      for (const listener of listeners) listener(bytes)
    }
    this.#detach = () => {
      stream.off("data", onData)
      for (const listener of listeners) stream.on("data", listener)
      stream.resume()
    }
    this.#pause = () => stream.pause()
    this.#resume = () => stream.resume()
    for (const listener of listeners) stream.off("data", listener)
    stream.on("data", onData)
    connection.query(this.#statement)
  }

  override _read(): void {
    this.#resume()
  }

  /** The chunk is ours: nobody else holds the memory that the socket was read into. */
  #take(chunk: Buffer): void {
    let read = 0
    let rows = 0
    while (read < chunk.length) {
      if (this.#missing > 0) {
        const end = Math.min(read + this.#missing, chunk.length)
        if (this.#isRow) rows += chunk.copy(chunk, rows, read, end)
        // A copy, because rows that follow are moved over it while pg may still wait for the rest of it.
        else this.#passOn(Buffer.from(chunk.subarray(read, end)))
        this.#missing -= end - read
        read = end
        continue
      }
      const header = this.#header.length === 0 ? chunk : Buffer.concat([this.#header, chunk.subarray(read)])
      const start = header === chunk ? read : 0
      if (header.length - start < HEADER_BYTES) {
        this.#header = Buffer.from(header.subarray(start))
        break
      }
      read += HEADER_BYTES - this.#header.length
      this.#header = Buffer.alloc(0)
      const code = header.readUInt8(start)
      this.#isRow = code === COPY_DATA
      if (this.#isRow || BESIDES.includes(code)) {
        this.#missing = header.readUInt32BE(start + 1) - (HEADER_BYTES - 1)
        if (!this.#isRow) this.#passOn(Buffer.from(header.subarray(start, start + HEADER_BYTES)))
        continue
      }
      this.#push(chunk.subarray(0, rows))
      if (code === COPY_DONE) this.push(null)
      this.#resume = () => {}
      this.#detach()
      this.#passOn(Buffer.concat([header.subarray(start, start + HEADER_BYTES), chunk.subarray(read)]))
      return
    }
    this.#push(chunk.subarray(0, rows))
  }

  #push(bytes: Buffer): void {
    if (bytes.length > 0 && !this.push(bytes)) this.#pause()
  }

  handleError(error: Error): void {
    this.destroy(error)
  }

  handleCommandComplete({ text }: { readonly text: string }): void {
    this.rowCount = Number(/^COPY (\d+)$/.exec(text)?.[1] ?? 0)
  }

  handleReadyForQuery(): void {}
}
