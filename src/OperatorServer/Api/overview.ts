/** How everything is: the outbox, now and over time, both databases, and the relays. */
import * as HttpApiEndpoint from "@effect/platform/HttpApiEndpoint"
import * as HttpApiGroup from "@effect/platform/HttpApiGroup"
import * as OpenApi from "@effect/platform/OpenApi"
import * as Schema from "effect/Schema"
import { column } from "../../schema/columns.ts"
import { Overview } from "../../schema/overview.ts"
import { DatabaseState, RelayState } from "../../schema/systems.ts"
import { Authorization, about } from "./common.ts"
import { optional, strict, whole } from "./fields.ts"

const MAX_MINUTES = 24 * 60
const MAX_STEP = 3_600

export const OverviewQuery = Schema.Struct({
  // No time of the caller's, whose clock may be wrong.
  minutes: optional(whole(1, MAX_MINUTES, "How far back; 15 unless set.")),
  step: optional(whole(1, MAX_STEP, "Seconds of a bucket; so many that there are 120 buckets at most, unless set."))
}).annotations(strict)

const Session = Schema.Struct({
  version: Schema.String.annotations({ description: "Of the server." }),
  tokenRequired: column("token_required", Schema.Boolean),
  relay: Schema.String.annotations({ description: "Which relay answers, as `host/pid`." })
}).annotations({ identifier: "Session" })

const Systems = Schema.Struct({
  postgres: DatabaseState,
  clickhouse: DatabaseState,
  relays: Schema.NullOr(Schema.Array(RelayState)).annotations({
    description: "Those that have delivered something lately, or are connected. Null while Postgres does not answer."
  })
}).annotations({ identifier: "Systems" })

export const overview = HttpApiGroup.make("overview")
  .add(
    HttpApiEndpoint.get("session", "/session")
      .addSuccess(Session)
      .annotateContext(about("Show whether a token is needed", "Whoever is answered is let in everywhere."))
  )
  .add(
    HttpApiEndpoint.get("overview", "/overview")
      .setUrlParams(OverviewQuery)
      .addSuccess(Overview)
      .annotateContext(
        about(
          "Show how the outbox fares",
          "Now, and over time: throughput, backlog, latency and failures of all relays together, as the manifest has them."
        )
      )
  )
  .add(
    HttpApiEndpoint.get("systems", "/systems")
      .addSuccess(Systems)
      .annotateContext(
        about("Show the databases and the relays", "Asks both databases, and answers also where one does not.")
      )
  )
  .middleware(Authorization)
  .annotateContext(OpenApi.annotations({ description: "How everything is." }))
