/** `clickhouse-outbox publish` */
import { constants, createReadStream } from "node:fs"
import { access } from "node:fs/promises"
import * as Args from "@effect/cli/Args"
import * as Command from "@effect/cli/Command"
import * as NodeStream from "@effect/platform-node/NodeStream"
import type { SqlError } from "@effect/sql/SqlError"
import { all } from "effect/Config"
import * as Console from "effect/Console"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Ref from "effect/Ref"
import * as Schema from "effect/Schema"
import * as Stream from "effect/Stream"
import * as Config from "../Config.ts"
import * as SqlState from "../internal/sqlState.ts"
import { reasonOf } from "../internal/text.ts"
import { NotMigrated } from "../OutboxStore.ts"
import * as Postgres from "../Postgres.ts"
import { FIELDS } from "../schema/eventLine.ts"
import * as EventLines from "./eventLines.ts"
import { withProgress } from "./print.ts"
import { fromSqlError, namePostgres, PostgresFailed } from "./services.ts"

const file = Args.text({ name: "FILE" }).pipe(
  Args.withDescription(
    `Events as NDJSON, one object a line, with the fields ${FIELDS.join(", ")}; the first two are required. - is standard input.`
  )
)

export const publish = Command.make("publish", { file }, ({ file }) =>
  Effect.gen(function* () {
    const { environment, postgres } = yield* all({ environment: Config.environment, postgres: Config.postgres })
    const rows = EventLines.toCopyRows(yield* open(file), { environment })
    const count = yield* copy(postgres, rows).pipe(Effect.provide(Postgres.layer(postgres)), namePostgres(postgres))
    yield* Console.log(`published ${count} ${count === 1 ? "event" : "events"}`)
  }).pipe(Effect.interruptible)
).pipe(Command.withDescription("Publishes the events of a file: all of them, or none if one is wrong."))

export class FileUnreadable extends Schema.TaggedError<FileUnreadable>()("FileUnreadable", {
  file: Schema.String,
  cause: Schema.Defect
}) {
  override get message(): string {
    return `${this.file} cannot be read, nothing was published: ${reasonOf(this.cause)}`
  }
}

/** Looks whether a file can be read before anything is begun. It may be a pipe, as of `<(…)` in a shell. */
const open = (file: string) =>
  Effect.gen(function* () {
    const unreadable = (cause: unknown) => new FileUnreadable({ file: file === "-" ? "Standard input" : file, cause })
    if (file !== "-") yield* Effect.tryPromise({ try: () => access(file, constants.R_OK), catch: unreadable })
    return NodeStream.fromReadable<FileUnreadable, Uint8Array>(
      () => (file === "-" ? process.stdin : createReadStream(file)),
      unreadable
    )
  })

export class PublishFailed extends Schema.TaggedError<PublishFailed>()("PublishFailed", {
  /** Everything had been sent, but COMMIT had not been answered. */
  inDoubt: Schema.Boolean,
  failure: PostgresFailed
}) {
  override get message(): string {
    return this.inDoubt
      ? `The connection was lost while the events were committed: look into outbox.event whether they are there before you publish them again. ${this.failure.message}`
      : `Nothing was published. ${this.failure.message}`
  }
}

export class TriggersOff extends Schema.TaggedError<TriggersOff>()("TriggersOff", {}) {
  override get message(): string {
    return "Nothing was published. session_replication_role is replica, for this role, this database or by PGOPTIONS, so the trigger that publishes does not fire: publish without that setting, or by outbox.publish or outbox.publish_all, which need no trigger"
  }
}

const copy = (
  config: Config.Postgres,
  rows: Stream.Stream<EventLines.CopyRows, EventLines.LinesInvalid | FileUnreadable>
) =>
  Effect.gen(function* () {
    const postgres = yield* Postgres.Postgres
    const read = yield* Ref.make(0)
    const ended = yield* Ref.make(false)
    const bytes = rows.pipe(
      Stream.tap(({ count }) => Ref.update(read, (sum) => sum + count)),
      Stream.map(({ bytes }) => bytes),
      Stream.onEnd(Ref.set(ended, true))
    )
    return yield* postgres.copyIn(EventLines.COPY_STATEMENT, bytes).pipe(
      withProgress(Effect.map(Ref.get(read), (count) => `${count.toLocaleString("en")} events read`)),
      Effect.catchTag("SqlError", (error) =>
        Effect.flatMap(Ref.get(ended), (ended) => Effect.fail(explain(config, error, ended)))
      )
    )
  })

const explain = (config: Config.Postgres, error: SqlError, committing: boolean) => {
  const invalid = EventLines.invalidAccordingTo(error)
  if (Option.isSome(invalid)) return invalid.value
  if (EventLines.isTriggersOff(error)) return new TriggersOff()
  if (SqlState.isNoOutbox(error)) return new NotMigrated()
  return new PublishFailed({
    inDoubt: committing && SqlState.isConnectionLost(error),
    failure: fromSqlError(config, error)
  })
}
