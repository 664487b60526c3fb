import { Chart } from "../../components/Chart.tsx"
import { count, short } from "../../numbers.ts"
import { duration } from "../../time.ts"
import type { Overview } from "./model.ts"

interface Props {
  readonly overview: Overview
  /** The number that the rest of the page shows, so that there are not two of different moments. */
  readonly backlog: number | undefined
}

const perSecond = (value: number) => `${short(value)}/s`

/** The outbox over time. From the manifest, so that it covers all relays, also those that were restarted. */
export const Charts = ({ backlog, overview: { buckets, now, stepSeconds } }: Props) => {
  const times = buckets.map(({ at }) => at)
  // The last bucket has not ended: its rates would always look like a drop.
  const ended = buckets.slice(0, -1)
  const last = ended.at(-1)
  const refused = buckets.reduce((sum, bucket) => sum + bucket.refused, 0)
  const rate = (events: number) => events / stepSeconds
  const waiting = backlog ?? now.backlog
  const step = duration(stepSeconds * 1_000)
  return (
    <div className="charts">
      <Chart
        title="Throughput"
        now={last === undefined ? "–" : perSecond(rate(last.delivered))}
        times={times.slice(0, -1)}
        lines={[
          { name: "delivered", values: ended.map(({ delivered }) => rate(delivered)), isFilled: true },
          { name: "published", values: ended.map(({ published }) => rate(published)) }
        ]}
        format={perSecond}
        about={`events per second, over the last ${step}`}
      />
      <Chart
        title="Backlog"
        now={count(waiting, "event")}
        times={times}
        lines={[{ name: "waiting", values: [...ended.map(({ backlog }) => backlog), waiting], isFilled: true }]}
        format={short}
        about="events that wait"
      />
      <Chart
        title="Latency"
        now={last?.p95Millis == null ? "–" : duration(last.p95Millis)}
        times={times}
        lines={[
          { name: "p95", values: buckets.map(({ p95Millis }) => p95Millis), isFilled: true },
          { name: "p50", values: buckets.map(({ p50Millis }) => p50Millis) }
        ]}
        format={duration}
        about={`p95 of batches’ oldest events, over ${step}`}
      />
      <Chart
        title="Refused"
        now={count(refused, "event")}
        times={times}
        lines={[{ name: "refused", values: buckets.map(({ refused }) => refused), isFilled: true }]}
        format={short}
        about="events that ClickHouse refused"
        isBad
      />
    </div>
  )
}
