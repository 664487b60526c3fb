/** Whether all is well, in sentences. */
import { count } from "../../numbers.ts"
import { duration } from "../../time.ts"
import type { DatabaseState, OutboxStatus, RelayState, Systems } from "./model.ts"

export interface Finding {
  /** `bad`: events do not arrive. `warn`: somebody is needed, but what can arrive arrives. */
  readonly tone: "good" | "warn" | "bad" | "unknown"
  readonly sentence: string
  readonly explanation?: string
  /** Where to go. */
  readonly link?: { readonly href: string; readonly text: string }
}

/** Why nothing is known. */
interface Unanswered {
  readonly title: string
  readonly message: string
}

interface Known {
  readonly status: OutboxStatus | undefined
  readonly systems: Systems | undefined
  readonly error: Unanswered | null
}

/** Older than this, events are late: sealing and delivering take a second or two. */
const LATE_MILLIS = 60_000

/** The most urgent first; never none. */
export const findings = ({ error, status, systems }: Known): readonly [Finding, ...ReadonlyArray<Finding>] => {
  if (error !== null) return [unanswered(error)]
  if (status === undefined || systems === undefined) return [{ tone: "unknown", sentence: "Looking…" }]
  const obstacles = [...databases(status, systems), ...delivery(status, systems)]
  const all = [...obstacles, ...failures(status, obstacles.length === 0)]
  const [first, ...others] = all.sort((a, b) => RANK[a.tone] - RANK[b.tone])
  return first === undefined ? [well(status)] : [first, ...others]
}

/** What a screen reader announces: without the numbers, which change with every refresh. */
export const headlineOf = ({ sentence }: Finding): string => sentence.split(":", 1)[0] ?? sentence

const RANK = { bad: 0, warn: 1, unknown: 2, good: 3 } as const

const waiting = ({ backlog, oldestUndeliveredMillis }: OutboxStatus): string =>
  backlog === 0 || oldestUndeliveredMillis === null
    ? "nothing is waiting"
    : `${count(backlog, "event")} waiting, the oldest for ${duration(oldestUndeliveredMillis)}`

const well = (status: OutboxStatus): Finding => ({ tone: "good", sentence: `All is well: ${waiting(status)}.` })

const unanswered = ({ message, title }: Unanswered): Finding => ({
  tone: "bad",
  sentence: `${title}.`,
  explanation: message
})

const databases = (status: OutboxStatus, { clickhouse, postgres }: Systems): ReadonlyArray<Finding> => [
  ...(isFine(postgres)
    ? []
    : [{ tone: "bad", sentence: `Postgres ${absence(postgres)}.`, ...because(postgres.reason) } as const]),
  ...(isFine(clickhouse)
    ? []
    : [
        {
          tone: "bad",
          sentence: `ClickHouse ${absence(clickhouse)}: ${waiting(status)}, and none is lost.`,
          ...because(clickhouse.reason),
          ...(status.openIncidents > 0 && { link: INCIDENT })
        } as const
      ])
]

const isFine = ({ migrated, reachable }: DatabaseState): boolean => reachable && migrated

const INCIDENT = { href: "/incidents?state=open", text: "See the incident" } as const

const absence = ({ reachable }: DatabaseState): string => (reachable ? "is not migrated" : "does not answer")

const because = (reason: string | null) => (reason === null ? {} : { explanation: reason })

const delivery = (status: OutboxStatus, { clickhouse, relays }: Systems): ReadonlyArray<Finding> => {
  const found: Array<Finding> = []
  const { backlog, lastError, openIncidents, relayPause } = status
  if (relayPause !== null) {
    found.push({
      tone: "bad",
      sentence: `Delivery is paused by ${relayPause.pausedBy}: ${relayPause.reason}`,
      explanation: `Publishing goes on: ${waiting(status)}. “Resume delivery” lets relays go on.`
    })
  }
  // Without ClickHouse there is an incident after a while: one cause, said once.
  if (openIncidents > 0 && isFine(clickhouse)) {
    found.push({
      tone: "bad",
      sentence: `Batches do not get through: ${waiting(status)}.`,
      ...because(lastError?.message ?? null),
      link: INCIDENT
    })
  }
  if (relays !== null && !relays.some(isThere)) {
    found.push({ tone: backlog > 0 ? "bad" : "warn", sentence: `No relay seems to be running: ${waiting(status)}.` })
  }
  const isExplained = found.length > 0 || !isFine(clickhouse)
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

/** A relay that has stopped is still listed for a while, by what it delivered. */
export const isThere = ({ connections, leases, self }: RelayState): boolean =>
  self || connections > 0 || leases.length > 0

const failures = (status: OutboxStatus, othersArrive: boolean): ReadonlyArray<Finding> => {
  const { events, failures } = status.openFailures
  return failures === 0
    ? []
    : [
        {
          tone: "warn",
          sentence: `${count(failures, "failure")} ${failures === 1 ? "needs" : "need"} you: ClickHouse refused ${count(events, "event")}.`,
          explanation: othersArrive ? `They delay no others: ${waiting(status)}.` : "They delay no others.",
          link: { href: "/failures", text: failures === 1 ? "Look at it" : "Look at them" }
        }
      ]
}
