/** Whether all is well, in sentences. */
import { Problem } from "clickhouse-outbox/operator-api"
import type { AskError } from "../../api/AskError.ts"
import { count } from "../../numbers.ts"
import { duration } from "../../time.ts"
import type { Status, SystemsAnswer } from "./model.ts"

export interface Finding {
  /** `bad`: events do not arrive. `warn`: somebody is needed, but what can arrive arrives. */
  readonly tone: "good" | "warn" | "bad" | "unknown"
  readonly sentence: string
  readonly explanation?: string
  /** Where to go. */
  readonly link?: { readonly href: string; readonly text: string }
}

interface Known {
  readonly status: Status | undefined
  readonly systems: SystemsAnswer | undefined
  readonly error: AskError | null
}

/** Older than this, events are late: sealing and delivering take a second or two. */
const LATE_MILLIS = 60_000

/** The most urgent first; never none. */
export const findings = ({ error, status, systems }: Known): readonly [Finding, ...ReadonlyArray<Finding>] => {
  if (error !== null) return [failed(error)]
  if (status === undefined || systems === undefined) return [{ tone: "unknown", sentence: "Looking…" }]
  const all = [...databases(systems), ...delivery(status, systems), ...failures(status)]
  const [first, ...others] = all.sort((a, b) => RANK[a.tone] - RANK[b.tone])
  return first === undefined ? [well(status)] : [first, ...others]
}

const RANK = { bad: 0, warn: 1, unknown: 2, good: 3 } as const

const waiting = ({ backlog, oldestUndeliveredMillis }: Status): string =>
  backlog === 0 || oldestUndeliveredMillis === null
    ? "every event has arrived"
    : `${count(backlog, "event")} waiting, the oldest for ${duration(oldestUndeliveredMillis)}`

const well = (status: Status): Finding => ({ tone: "good", sentence: `All is well: ${waiting(status)}.` })

const failed = (error: AskError): Finding => ({
  tone: "bad",
  sentence: error instanceof Problem ? `${error.title}.` : "The relay does not answer.",
  explanation: error.message
})

const databases = ({ clickhouse, postgres }: SystemsAnswer): ReadonlyArray<Finding> => [
  ...(postgres.reachable && postgres.migrated
    ? []
    : [{ tone: "bad", sentence: database("Postgres", postgres), ...because(postgres.reason) } as const]),
  ...(clickhouse.reachable && clickhouse.migrated
    ? []
    : [{ tone: "bad", sentence: database("ClickHouse", clickhouse), ...because(clickhouse.reason) } as const])
]

const database = (name: string, { reachable }: { readonly reachable: boolean }): string =>
  reachable
    ? `${name} is not migrated.`
    : `${name} does not answer.${name === "ClickHouse" ? " Events wait in Postgres; none is lost." : ""}`

const because = (reason: string | null) => (reason === null ? {} : { explanation: reason })

const delivery = (status: Status, { clickhouse, relays }: SystemsAnswer): ReadonlyArray<Finding> => {
  const found: Array<Finding> = []
  const { backlog, lastError, openIncidents, relayHold } = status
  if (relayHold !== null) {
    found.push({
      tone: "bad",
      sentence: `Delivery is held by ${relayHold.heldBy}: ${relayHold.reason}`,
      explanation: `Publishing goes on: ${waiting(status)}. “Resume delivery” ends the hold.`
    })
  }
  if (openIncidents > 0) {
    found.push({
      tone: "bad",
      sentence: `Batches do not get through: ${waiting(status)}.`,
      ...because(lastError?.message ?? null),
      link: { href: "/incidents?state=open", text: "See the incident" }
    })
  }
  if (relays !== null && relays.length === 0) {
    found.push({ tone: backlog > 0 ? "bad" : "warn", sentence: `No relay is running: ${waiting(status)}.` })
  }
  const isExplained = found.length > 0 || !clickhouse.reachable
  if (!isExplained && (status.oldestUndeliveredMillis ?? 0) > LATE_MILLIS) {
    found.push({
      tone: "bad",
      sentence: `Delivery is behind: ${waiting(status)}.`,
      ...because(lastError?.message ?? null),
      link: { href: "/batches", text: "See the batches" }
    })
  }
  return found
}

const failures = ({ openFailures: { events, failures } }: Status): ReadonlyArray<Finding> =>
  failures === 0
    ? []
    : [
        {
          tone: "warn",
          sentence: `${count(failures, "failure")} ${failures === 1 ? "needs" : "need"} you: ClickHouse refused ${count(events, "event")}.`,
          explanation: "They hold up no others.",
          link: { href: "/failures", text: failures === 1 ? "Look at it" : "Look at them" }
        }
      ]
