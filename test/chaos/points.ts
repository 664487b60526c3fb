/**
 * Named points on an event's way, recognised by what passes between a relay and the databases: nothing in the product
 * knows of them. A point is a sequence of bytes seen on one connection; whatever is done there is done before any other
 * byte of it passes.
 */
import type { Interference, Passing } from "../support/proxy.ts"

export type Server = "postgres" | "clickhouse"

interface Sign {
  readonly from: Passing["from"]
  readonly isIn: (passing: Passing, text: () => string) => boolean
}

export interface Point {
  readonly server: Server
  /** Seen one after the other. The last is where it is. */
  readonly signs: ReadonlyArray<Sign>
  /** How many of the last sign's bytes arrive. */
  readonly arriving: (bytes: Buffer) => number
  /** What has to happen first, or it is not reached. */
  readonly needs?: "doubt" | "loss" | "refusal"
}

const all = (bytes: Buffer) => bytes.length
const none = () => 0
const half = (bytes: Buffer) => Math.floor(bytes.length / 2)

const says = (statement: RegExp): Sign => ({ from: "client", isIn: (_, text) => statement.test(text()) })
const answers = (content?: RegExp): Sign => ({
  from: "server",
  isIn: (_, text) => content === undefined || content.test(text())
})

const COMMIT = says(/\bCOMMIT\b/)
const UUID = /[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}/
const SEALS = [says(/FROM due, candidates/), answers(UUID)]
const LEASES = [says(/WITH free AS/), answers(UUID)]
const SPLITS = [says(/WITH parent AS \(\s*UPDATE outbox\.batch/), answers()]
const FAILS = [says(/WITH failed AS \(\s*UPDATE outbox\.batch/), answers()]
const ACKNOWLEDGES = says(/UPDATE outbox\.batch SET\s+state = 'delivered'(?![\s\S]*republished_event_ids)/)
const PLANS_REPAIR = says(/SET repair_token = gen_random_uuid/)
/** Mostly it is not time yet. */
const MOVES_ON = [says(/SELECT setval\('outbox\.event_slot'/), answers(/SELECT 1\0/)]
const TRUNCATES = says(/TRUNCATE outbox\./)

/** The token is in the address, the rows are the body. */
const TOKEN = /insert_deduplication_token=([0-9a-f-]{36})/
export const tokenOf = ({ request }: Passing): string | undefined => TOKEN.exec(request)?.[1]
const END_OF_BODY = Buffer.from("0\r\n\r\n")
export const endsBody = (bytes: Buffer): boolean => bytes.subarray(-END_OF_BODY.length).equals(END_OF_BODY)

const SENDS: Sign = {
  from: "client",
  isIn: (passing) => tokenOf(passing) !== undefined && passing.sent > 0 && passing.bytes.length > 100
}
const ENDS: Sign = { from: "client", isIn: (passing) => tokenOf(passing) !== undefined && endsBody(passing.bytes) }
const TAKEN: Sign = { from: "server", isIn: (passing) => tokenOf(passing) !== undefined }
const QUESTION = /SELECT toUInt32\(count\(\)\), groupArray\(id\)/
const ASKS: Sign = {
  from: "client",
  isIn: (passing, text) => tokenOf(passing) === undefined && QUESTION.test(text())
}

/** Whether these bytes ask ClickHouse which events it has. */
export const isQuestion = (passing: Passing): boolean =>
  passing.from === "client" && ASKS.isIn(passing, () => passing.bytes.toString("latin1"))

const postgres = (signs: ReadonlyArray<Sign>, arriving: Point["arriving"], needs?: Point["needs"]): Point => ({
  server: "postgres",
  signs,
  arriving,
  ...(needs && { needs })
})
const clickhouse = (signs: ReadonlyArray<Sign>, arriving: Point["arriving"], needs?: Point["needs"]): Point => ({
  ...postgres(signs, arriving, needs),
  server: "clickhouse"
})

export const points = {
  "seal: before its commit": postgres([...SEALS, COMMIT], none),
  "seal: committed, answer lost": postgres([...SEALS, COMMIT, answers()], none),
  "seal: committed": postgres([...SEALS, COMMIT, answers()], all),
  "lease: committed, answer lost": postgres(LEASES, none),
  "lease: committed": postgres(LEASES, all),
  "copy: begun": postgres([says(/COPY \(/), answers()], half),
  "insert: in the middle": clickhouse([SENDS], half),
  "insert: before its last byte": clickhouse([ENDS], (bytes) => bytes.length - 1),
  "insert: after its last byte": clickhouse([ENDS], all),
  "insert: taken, answer lost": clickhouse([TAKEN], none),
  "insert: taken": clickhouse([TAKEN], all),
  "verification: before the question": clickhouse([ASKS], none, "doubt"),
  "verification: asked": clickhouse([ASKS], all, "doubt"),
  "verification: answered": clickhouse([ASKS, answers()], all, "doubt"),
  "repair: planned": postgres([PLANS_REPAIR, answers(UUID)], all, "loss"),
  "split: before its commit": postgres([...SPLITS, COMMIT], none, "refusal"),
  "split: committed, answer lost": postgres([...SPLITS, COMMIT, answers()], none, "refusal"),
  "split: committed": postgres([...SPLITS, COMMIT, answers()], all, "refusal"),
  "failure: before its commit": postgres([...FAILS, COMMIT], none, "refusal"),
  "failure: committed": postgres([...FAILS, COMMIT, answers()], all, "refusal"),
  "acknowledgement: before": postgres([ACKNOWLEDGES], none),
  "acknowledgement: sent": postgres([ACKNOWLEDGES], all),
  "acknowledgement: committed, answer lost": postgres([ACKNOWLEDGES, answers()], none),
  "acknowledgement: committed": postgres([ACKNOWLEDGES, answers()], all),
  "slot: locked": postgres([says(/LOCK TABLE outbox\./), answers()], all),
  "slot: truncated, before its commit": postgres([TRUNCATES, answers(), COMMIT], none),
  "slot: emptied": postgres([TRUNCATES, answers(), COMMIT, answers()], all),
  "slot: moved on, before its commit": postgres([...MOVES_ON, COMMIT], none)
} as const satisfies Record<string, Point>

export type PointName = keyof typeof points
const isPointName = (name: string): name is PointName => name in points
export const pointNames = Object.keys(points).filter(isPointName)

const STATEMENT = /\b(SELECT|UPDATE|INSERT|DELETE|WITH|COPY|TRUNCATE|LOCK|BEGIN|COMMIT|ROLLBACK|SET)\b/
const TRANSACTION = /\b(BEGIN|ROLLBACK)\b/
/** A sign stands at the beginning of what is said: what follows may be megabytes of rows. */
const MOST_TEXT = 65_536

/** Looks for a point in what passes through one proxy. */
export const track = ({ signs }: Point): ((passing: Passing) => boolean) => {
  const positions = new Map<number, number>()
  return (passing) => {
    let read: string | undefined
    const text = () => {
      read ??= passing.bytes.toString("latin1", 0, MOST_TEXT)
      return read
    }
    const isNext = (position: number) => {
      const sign = signs[position]
      return sign !== undefined && sign.from === passing.from && sign.isIn(passing, text)
    }
    const position = positions.get(passing.connection) ?? 0
    if (isNext(position)) {
      positions.set(passing.connection, position + 1)
      return position + 1 === signs.length
    }
    // Where an answer was to follow any other statement is the next one; where a COMMIT was, one of the same transaction
    // may come before it.
    const gone = signs[position]?.from === "client" ? TRANSACTION : STATEMENT
    if (position > 0 && passing.from === "client" && gone.test(text())) {
      positions.set(passing.connection, isNext(0) ? 1 : 0)
    }
    return false
  }
}

/** What a proxy does to bytes that are to arrive so far, where the connection's end is left to the relay's own. */
export const silence = (arriving: number): Interference => ({ arriving, next: "silence" })
