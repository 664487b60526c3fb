/** `clickhouse-outbox failures` */
import * as Command from "@effect/cli/Command"
import { discard, reopen, resolve } from "./failures/close.ts"
import { edit } from "./failures/edit.ts"
import { list } from "./failures/list.ts"
import { replay } from "./failures/replay.ts"
import { show } from "./failures/show.ts"

export const failures = Command.make("failures").pipe(
  Command.withDescription("What ClickHouse refused: read it, correct it, publish it again, close it or reopen it."),
  Command.withSubcommands([list, show, edit, replay, discard, resolve, reopen])
)
