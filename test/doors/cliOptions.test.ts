/** How the command line reads its arguments. */
import { stripVTControlCharacters } from "node:util"
import * as CliConfig from "@effect/cli/CliConfig"
import * as Command from "@effect/cli/Command"
import * as HelpDoc from "@effect/cli/HelpDoc"
import * as NodeContext from "@effect/platform-node/NodeContext"
import { expect, it } from "@effect/vitest"
import * as ConfigError from "effect/ConfigError"
import * as ConfigProvider from "effect/ConfigProvider"
import * as Effect from "effect/Effect"
import { normalize } from "../../src/Cli/options.ts"
import { command, run } from "../../src/Cli.ts"

/** The options of all commands that take no value, as the help prints them: `[--json]`. */
const flags = new Set(
  [
    ...stripVTControlCharacters(HelpDoc.toAnsiText(Command.getHelp(command, CliConfig.defaultConfig))).matchAll(
      /\[(--[\w-]+)\]/g
    )
  ].map(([, flag = ""]) => flag)
)

/** What a command of these arguments fails with where no variable is set. */
const failureOf = (...args: ReadonlyArray<string>) =>
  run(["node", "clickhouse-outbox", ...args]).pipe(
    Effect.flip,
    Effect.provide(NodeContext.layer),
    Effect.withConfigProvider(ConfigProvider.fromMap(new Map()))
  )

it("a flag of any command says yes, whatever stands behind it", () => {
  expect([...flags]).toEqual(expect.arrayContaining(["--json", "--until-empty", "--repair", "--yes"]))
  for (const flag of flags) {
    expect(normalize(["node", "x", "command", flag, "1"])).toEqual(["node", "x", "command", `${flag}=true`, "1"])
  }
})

it.effect.each([
  "--log-level none relay --until-empty",
  "relay --log-level none --until-empty",
  "relay --until-empty --log-level none",
  "relay --until-empty --log-level=none",
  "failures show --json 1 --log-level none",
  "failures show 1 --json"
])("options may stand in any order: %s", (args) =>
  Effect.gen(function* () {
    expect(yield* failureOf(...args.split(" "))).toSatisfy(ConfigError.isConfigError)
  })
)
