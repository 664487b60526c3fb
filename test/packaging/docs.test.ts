/** Holds README.md and docs/ against the code, and runs the examples in other languages. */
import { execFile } from "node:child_process"
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs"
import { dirname, join, relative, resolve } from "node:path"
import { fileURLToPath } from "node:url"
import * as SqlClient from "@effect/sql/SqlClient"
import { expect, it, layer } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Config from "../../src/Config.ts"
import * as Event from "../../src/Event.ts"
import * as EventPublisher from "../../src/EventPublisher.ts"
import * as Relay from "../../src/Relay.ts"
import * as Cli from "../support/cli.ts"
import * as Environment from "../support/environment.ts"
import { counts, eventLog } from "../support/eventLog.ts"
import { until } from "../support/wait.ts"

const ROOT = fileURLToPath(new URL("../..", import.meta.url))
const read = (path: string): string => readFileSync(join(ROOT, path), "utf8")

const PAGES = [
  "README.md",
  ...readdirSync(join(ROOT, "docs")).flatMap((name) => (/\.md$/.test(name) ? [`docs/${name}`] : []))
]

interface Block {
  readonly page: string
  readonly line: number
  readonly language: string
  readonly text: string
}

/** Fenced blocks, without the indentation of a list that they are in. */
const blocksIn = (page: string, text: string): ReadonlyArray<Block> =>
  [...text.matchAll(/^( *)```(\w*)\n([\s\S]*?)^ *```$/gm)].map(([, indent = "", language = "", body = ""], i, all) => ({
    page,
    line: text.slice(0, all[i]?.index).split("\n").length,
    language,
    text: body.replaceAll(new RegExp(`^${indent}`, "gm"), "")
  }))

const blocksOf = (page: string): ReadonlyArray<Block> => blocksIn(page, read(page))

const BLOCKS = PAGES.flatMap(blocksOf)

/** The blocks of doc comments, without their asterisks. */
const EXAMPLES = readdirSync(join(ROOT, "src"), { recursive: true, encoding: "utf8" })
  .filter((name) => /\.ts$/.test(name))
  .flatMap((name) => blocksIn(`src/${name}`, read(`src/${name}`).replaceAll(/^ \* ?/gm, "")))

const withoutBlocks = (page: string): string => read(page).replaceAll(/^ *```[\s\S]*?^ *```$/gm, "")

/** What a page says in code: blocks, indented blocks, and spans between backticks. */
const codeOf = (page: string): string =>
  [
    ...blocksOf(page).map(({ text }) => text),
    ...[...withoutBlocks(page).matchAll(/`([^`]+)`|^ {4}(.*)$/gm)].map(([, span = "", line = ""]) => span || line)
  ].join("\n")

/** As GitHub makes anchors of headings. */
const anchorsOf = (page: string): ReadonlySet<string> => {
  const anchors = new Set<string>()
  for (const [, heading = ""] of withoutBlocks(page).matchAll(/^#+ (.*)$/gm)) {
    const anchor = heading
      .replaceAll(/\[([^\]]*)\]\([^)]*\)/g, "$1")
      .toLowerCase()
      .replaceAll(/[^\p{L}\p{N}_ -]/gu, "")
      .replaceAll(" ", "-")
    let unique = anchor
    for (let n = 1; anchors.has(unique); n++) unique = `${anchor}-${n}`
    anchors.add(unique)
  }
  return anchors
}

const linksOf = (page: string) =>
  [...withoutBlocks(page).matchAll(/\]\(([^)\s]+)\)/g)].flatMap(([, target = ""]) =>
    /^[a-z]+:/.test(target) ? [] : [{ page, target }]
  )

const isBroken = ({ page, target }: { readonly page: string; readonly target: string }): boolean => {
  const [path = "", anchor] = target.split("#")
  const file = path === "" ? page : relative(ROOT, resolve(ROOT, dirname(page), path))
  if (!existsSync(join(ROOT, file))) return true
  return anchor !== undefined && !(file.endsWith(".md") && anchorsOf(file).has(anchor))
}

const run = (command: string, args: ReadonlyArray<string>, env: NodeJS.ProcessEnv = process.env) =>
  Effect.async<{ readonly code: number; readonly stdout: string; readonly stderr: string }>((resume) => {
    execFile(command, [...args], { env, cwd: ROOT }, (error, stdout, stderr) => {
      const code = error === null ? 0 : typeof error.code === "number" ? error.code : -1
      resume(Effect.succeed({ code, stdout, stderr: stderr || String(error ?? "") }))
    })
  })

const subcommands = (path: string): ReadonlyArray<string> => {
  const names = /withSubcommands\(\[([^\]]+)\]/.exec(read(path))?.[1]
  if (names === undefined) throw new Error(`${path} has no subcommands`)
  return names.split(",").map((name) => name.trim())
}

it("The documentation has no link that leads nowhere", () => {
  const links = PAGES.flatMap(linksOf)
  expect(links.length).toBeGreaterThan(50)
  expect(links.filter(isBroken)).toEqual([])
})

it("The documentation lists every page in docs/README.md", () => {
  const listed = linksOf("docs/README.md").map(({ target }) => `docs/${target}`)
  expect(listed.sort()).toEqual(PAGES.filter((page) => !page.endsWith("README.md")).sort())
})

it("The documentation names only commands that exist", () => {
  const commands = subcommands("src/Cli.ts")
  const groups = ["failures", "batches", "incidents"]
  const nested = new Map(groups.map((group) => [group, subcommands(`src/Cli/${group}.ts`)]))
  const named = PAGES.flatMap((page) =>
    [...codeOf(page).matchAll(/(?<![\w/-])clickhouse-outbox ([a-z]+)(?: ([a-z]+))?/g)].map(
      ([, command = "", second = ""]) => ({ page, command, second })
    )
  )
  expect(named.length).toBeGreaterThan(50)
  expect(
    named.filter(
      ({ command, second }) => !commands.includes(command) || nested.get(command)?.includes(second) === false
    )
  ).toEqual([])
})

it("The documentation names only npm scripts that exist", () => {
  const { scripts }: { readonly scripts: Readonly<Record<string, string>> } = JSON.parse(read("package.json"))
  const named = PAGES.flatMap((page) =>
    [...codeOf(page).matchAll(/npm run (?:-s )?([\w:]+)/g)].map(([, script = ""]) => ({ page, script }))
  )
  expect(named.length).toBeGreaterThan(3)
  expect(named.filter(({ script }) => scripts[script] === undefined)).toEqual([])
})

it("The documentation names only variables that docs/configuration.md explains, besides OpenTelemetry's own", () => {
  const explained = new Set([...read("docs/configuration.md").matchAll(/^\| `([A-Z_]+)`/gm)].map(([, name]) => name))
  const named = PAGES.flatMap((page) =>
    [...codeOf(page).matchAll(/\b(?:OUTBOX|CLICKHOUSE|DATABASE|LOG)_[A-Z]+(?:_[A-Z]+)*\b/g)].map(([name]) => ({
      page,
      name
    }))
  )
  expect(named.length).toBeGreaterThan(50)
  expect(named.filter(({ name }) => !explained.has(name))).toEqual([])
})

it("The documentation names only tests that exist", () => {
  const named = [
    ...read("docs/guarantees.md").matchAll(/\]\(\.\.\/test\/([\w./]+)\): "([^"]+?)(?: …)?"(?:, "([^"]+?)(?: …)?")?/g)
  ].map(([, file = "", name = ""]) => ({ file, name }))
  expect(named.length).toBeGreaterThan(10)
  // The pages leave out whom a sentence is about, and sometimes how it ends.
  const titles = (file: string) => read(`test/${file}`).match(/["`].+["`],?/g) ?? []
  expect(named.filter(({ file, name }) => !titles(file).some((title) => title.includes(name)))).toEqual([])
})

it("The documentation shows the examples in Python and Go as they are", () => {
  const files = { python: read("examples/python/publish.py"), go: read("examples/go/main.go") }
  const shown = BLOCKS.flatMap(({ language, ...block }) =>
    language === "python" || language === "go" ? [{ ...block, file: files[language] }] : []
  )
  expect(shown).toHaveLength(2)
  expect(shown.filter(({ file, text }) => !file.includes(text))).toEqual([])
})

/** What an example imports that stands for the reader's own code. */
const EVENTS = `
import { Schema } from "effect"
import { Event } from "clickhouse-outbox"

export const UserCreated = Event.define({
  eventType: "user_created",
  eventContext: Schema.Struct({ userId: Schema.Number })
})
`

it("TypeScript in the documentation has an example in each module that an application uses", () => {
  const [forApplications = "", forRelays = ""] = read("src/index.ts").split("// What only relays need")
  const modulesOf = (text: string) => [...text.matchAll(/ from "\.\/(\w+\.ts)"/g)].map(([, module]) => module)
  expect(modulesOf(forRelays).length).toBeGreaterThan(3)
  const withExamples = new Set(EXAMPLES.map(({ page }) => page))
  expect(
    modulesOf(`${forApplications} from "./index.ts"`).filter((module) => !withExamples.has(`src/${module}`))
  ).toEqual([])
})

it.scopedLive(
  "TypeScript in the documentation compiles where it uses the package, in pages and in the examples of doc comments",
  () =>
    Effect.gen(function* () {
      mkdirSync(join(ROOT, ".data"), { recursive: true })
      const folder = yield* Effect.acquireRelease(
        Effect.sync(() => mkdtempSync(join(ROOT, ".data", "docs-"))),
        (folder) => Effect.sync(() => rmSync(folder, { recursive: true }))
      )
      const uses = [...BLOCKS, ...EXAMPLES].filter(
        ({ language, text }) => language === "ts" && /from "clickhouse-outbox/.test(text)
      )
      expect(uses.length).toBeGreaterThan(15)
      for (const { line, page, text } of uses) {
        writeFileSync(join(folder, `${page.replaceAll(/\W/g, "_")}_line_${line}.ts`), text)
      }
      writeFileSync(join(folder, "events.ts"), EVENTS)
      writeFileSync(
        join(folder, "tsconfig.json"),
        // In an example a definition may stand for itself.
        JSON.stringify({
          extends: "../../tsconfig.json",
          compilerOptions: { noUnusedLocals: false },
          include: ["*.ts"]
        })
      )
      const { code, stdout } = yield* run(join(ROOT, "node_modules/.bin/tsc"), ["-p", folder])
      expect({ code, stdout }).toEqual({ code: 0, stdout: "" })
    })
)

const drain = Effect.gen(function* () {
  const relay = yield* Relay.make({ ...(yield* Config.relay), ...(yield* Config.outbox) })
  yield* relay.drain
})

layer(Environment.layer(), { excludeTestServices: true })("The statements in docs/guarantees.md", (it) => {
  it.effect(
    "The statements in docs/guarantees.md make ClickHouse forget a time, of which verify brings back what Postgres has, and leave one row of each",
    () =>
      Effect.gen(function* () {
        const events = Array.from({ length: 10 }, (_, n) => Event.make({ eventType: "counted", eventContext: { n } }))
        yield* EventPublisher.publishAll(events)
        yield* drain
        const before = yield* eventLog
        expect(before).toHaveLength(10)
        const { CLICKHOUSE_DATABASE, CLICKHOUSE_URL } = yield* Environment.Environment
        const inClickHouse = (containing: string) =>
          Effect.promise(async () => {
            const body = BLOCKS.find(
              ({ page, text }) => page === "docs/guarantees.md" && text.includes(containing)
            )?.text.replace(/'[^']*00:00:00'/, "'1900-01-01'")
            const answer = await fetch(`${CLICKHOUSE_URL}?database=${CLICKHOUSE_DATABASE}`, {
              method: "POST",
              body: body ?? containing
            })
            expect(await answer.text()).toBe("")
          })

        yield* inClickHouse("ALTER TABLE event_log DELETE")
        expect(yield* counts).toEqual({ rows: 0, events: 0 })
        expect(yield* Cli.run(["verify", "--repair"])).toMatchObject({ code: 0 })
        yield* drain
        expect(yield* eventLog).toEqual(before)

        yield* inClickHouse("INSERT INTO event_log SELECT * FROM event_log")
        expect(yield* counts).toEqual({ rows: 20, events: 10 })
        yield* inClickHouse("DEDUPLICATE BY")
        expect(yield* eventLog).toEqual(before)
      })
  )
})

layer(Environment.layer(), { excludeTestServices: true })("The statements in docs/faq.md", (it) => {
  it.effect(
    "The statements in docs/faq.md delete all that the outbox has of a person but what waits, which is then delivered",
    () =>
      Effect.gen(function* () {
        const sql = yield* SqlClient.SqlClient
        const statements = BLOCKS.find(
          ({ page, text }) => page === "docs/faq.md" && text.includes("DELETE FROM outbox.event")
        )?.text
        const of = (userId: number, more: Event.JsonObject = {}) =>
          Event.make({ eventType: "seen", eventContext: { userId, ...more } })
        const [again] = yield* EventPublisher.publishAll([of(42), of(42), of(42, { n: 1e30 }), of(7)])
        if (again === undefined) return yield* Effect.dieMessage("nothing was published")
        yield* drain
        expect(yield* Cli.run(["failures", "discard", "1", "--note", "a test"])).toMatchObject({ code: 0 })
        yield* EventPublisher.publish(Event.make({ eventType: "seen", eventContext: { userId: 42 }, eventId: again }))

        const left = Effect.zip(
          sql`SELECT event_id = ${again} AS again, event_context FROM outbox.event ORDER BY id`,
          sql`SELECT event_context FROM outbox.batch_failure_event`
        )
        yield* sql.unsafe(statements ?? "")
        const first = { again: true, event_context: { userId: 42 } }
        const other = { again: false, event_context: { userId: 7 } }
        expect(yield* left).toEqual([[first, other, first], []])
        yield* drain
        expect(yield* counts).toEqual({ rows: 4, events: 3 })
        yield* sql.unsafe(statements ?? "")
        expect(yield* left).toEqual([[other], []])
      })
  )
})

layer(Environment.layer(), { excludeTestServices: true })("With the grants in docs/security.md", (it) => {
  it.scoped(
    "With the grants in docs/security.md, applications publish, relays deliver, isolate and tidy, readers look, and nobody changes an event",
    () =>
      Effect.gen(function* () {
        const sql = yield* SqlClient.SqlClient
        const suffix = `${process.pid}_${Date.now()}`
        const [app, relay, operator, reader] = [
          `shop_app_${suffix}`,
          `shop_relay_${suffix}`,
          `ada_${suffix}`,
          `grafana_${suffix}`
        ]
        const roles = [app, relay, operator, reader]
        const grants = BLOCKS.find(
          ({ page, text }) => page === "docs/security.md" && text.includes("TO shop_app")
        )?.text.replaceAll(/\b(shop_app|shop_relay|ada|grafana)\b/g, `$1_${suffix}`)
        yield* Effect.acquireRelease(
          sql.unsafe(roles.map((role) => `CREATE ROLE ${role} LOGIN PASSWORD 'x'`).join(";")),
          () => Effect.orDie(sql.unsafe(roles.map((role) => `DROP OWNED BY ${role}; DROP ROLE ${role}`).join(";")))
        )
        yield* sql.unsafe(grants ?? "")
        const url = new URL((yield* Environment.Environment).DATABASE_URL ?? "")
        url.password = "x"
        const as = (role: string, ...args: ReadonlyArray<string>) => {
          url.username = role
          return Cli.run(args, { variables: { DATABASE_URL: url.href } })
        }
        const denied = { code: 1, stderr: expect.stringContaining("permission denied") }

        yield* sql.withTransaction(
          sql.unsafe(`SET LOCAL ROLE ${app}; SELECT outbox.publish('good', '{}'), outbox.publish('bad', '{"n": 1e30}')`)
        )
        expect(yield* as(app, "status")).toMatchObject(denied)
        expect(yield* as(relay, "relay", "--until-empty")).toMatchObject({ code: 0 })
        expect(yield* counts).toEqual({ rows: 1, events: 1 })
        expect(yield* as(reader, "failures", "list")).toMatchObject({ code: 0, stdout: expect.stringContaining("bad") })
        expect(yield* as(reader, "failures", "replay", "1")).toMatchObject(denied)
        expect(yield* as(relay, "failures", "edit", "1", "--context", "{}", "--replay")).toMatchObject(denied)
        expect(yield* as(operator, "failures", "edit", "1", "--context", "{}", "--replay")).toMatchObject({ code: 0 })
        expect(yield* as(operator, "pause", "--reason", "a test")).toMatchObject({ code: 0 })
        expect(yield* as(operator, "resume")).toMatchObject({ code: 0 })
        expect(yield* as(relay, "restamp")).toMatchObject(denied)

        const slots = sql`SELECT outbox.current_slot() AS slot, (SELECT count(*)::integer FROM outbox.event) AS events`
        expect((yield* slots)[0]).toMatchObject({ slot: 0, events: expect.any(Number) })
        yield* sql`
        UPDATE outbox.batch SET
          sealed_at = sealed_at - interval '2 hours',
          delivered_at = delivered_at - interval '2 hours'
      `
        url.username = relay
        const kept = yield* Cli.start(["relay"], {
          variables: { DATABASE_URL: url.href, OUTBOX_HTTP_PORT: "off", OUTBOX_EVENT_RETENTION: "1 second" }
        })
        yield* kept.said("Emptied slot 0, whose events were all delivered")
        expect(yield* slots).toEqual([{ slot: 1, events: 0 }])
        const delivered = sql`SELECT count(*)::integer AS count FROM outbox.batch WHERE state = 'delivered'`
        expect(yield* delivered).toEqual([{ count: 1 }])

        for (const role of roles) {
          for (const change of [
            "UPDATE outbox.event SET environment = 'x'",
            "DELETE FROM outbox.event",
            "TRUNCATE outbox.event"
          ]) {
            const refused = sql.withTransaction(sql.unsafe(`SET LOCAL ROLE ${role}; ${change}`))
            expect((yield* Effect.flip(refused)).cause).toMatchObject({ code: "42501" })
          }
        }
      })
  )
})

const TRACEPARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
const GO = { GOPATH: "/usr/share/gocode", GO111MODULE: "off", GOCACHE: join(ROOT, ".data", "go-cache") }

/** The first of several that can do it. */
const findPython = Effect.gen(function* () {
  for (const python of ["python3", "/usr/bin/python3"]) {
    const { code } = yield* run(python, ["-c", "import psycopg"])
    if (code === 0) return python
  }
  return undefined
})

const buildGo = Effect.gen(function* () {
  const env = { ...process.env, ...GO }
  const { code } = yield* run("go", ["list", "github.com/lib/pq"], env)
  if (code !== 0) return undefined
  mkdirSync(join(ROOT, ".data"), { recursive: true })
  const program = join(ROOT, ".data", "go-publish")
  const built = yield* run("go", ["build", "-o", program, "examples/go/main.go"], env)
  expect(built).toMatchObject({ code: 0, stdout: "" })
  return program
})

/** On databases of its own, with the program that `find` finds. Without one the test is skipped, and says what it needs. */
const example = (
  language: string,
  needs: string,
  find: Effect.Effect<{ readonly command: string; readonly args: ReadonlyArray<string> } | undefined>
) =>
  it.scopedLive(
    `in ${language}, where there is ${needs}, publishes with its row or not at all, and tries again what Postgres gave up`,
    (context) =>
      Effect.gen(function* () {
        const program = yield* find
        if (program === undefined) return context.skip(`needs ${needs}, which is not installed here`)
        yield* placesOrders(program).pipe(Environment.fresh())
      })
  )

const placesOrders = ({ args, command }: { readonly command: string; readonly args: ReadonlyArray<string> }) =>
  Effect.gen(function* () {
    const sql = yield* SqlClient.SqlClient
    yield* sql.unsafe(read("examples/python/schema.sql"))
    const url = new URL((yield* Environment.Environment).DATABASE_URL ?? "")
    url.searchParams.set("sslmode", "disable")
    const env = { ...process.env, DATABASE_URL: url.href, TRACEPARENT }
    const order = (quantity: number) => run(command, [...args, "keyboard", String(quantity)], env)
    const published = sql`SELECT event_id, event_context, traceparent FROM outbox.event ORDER BY id`

    const first = yield* order(2)
    expect(first).toMatchObject({ code: 0, stdout: expect.stringMatching(/^order 1, event [0-9a-f-]{36}\n$/) })
    const expected = {
      event_id: first.stdout.trim().slice(-36),
      event_context: { order: 1, item: "keyboard", quantity: 2 },
      traceparent: TRACEPARENT
    }
    expect(yield* published).toEqual([expected])

    expect(yield* order(9)).toMatchObject({ code: 1, stderr: expect.stringContaining("nothing was written") })
    expect(yield* published).toEqual([expected])
    expect(yield* sql`SELECT quantity FROM orders`).toEqual([{ quantity: 2 }])

    // Changed by another transaction while the program's waits for it.
    const retried = yield* sql.withTransaction(
      Effect.gen(function* () {
        yield* sql`UPDATE stock SET quantity = quantity - 1`
        const waiting = yield* Effect.fork(order(1))
        yield* until(
          sql<{ locks: number }>`
            SELECT count(*)::integer AS locks
            FROM pg_locks
            JOIN pg_stat_activity USING (pid)
            WHERE NOT granted AND datname = current_database()
          `,
          ([row]) => row?.locks === 1
        )
        return waiting
      })
    )
    expect(yield* Fiber.join(retried)).toMatchObject({
      code: 0,
      stderr: expect.stringContaining("could not serialize access due to concurrent update")
    })
    expect(yield* sql`SELECT quantity FROM stock`).toEqual([{ quantity: 1 }])
    expect(yield* sql`SELECT quantity FROM orders ORDER BY id`).toEqual([{ quantity: 2 }, { quantity: 1 }])
    expect(yield* published).toHaveLength(2)
  })

example(
  "Python",
  "python3 with psycopg 3",
  Effect.map(findPython, (command) =>
    command === undefined ? undefined : { command, args: ["examples/python/publish.py"] }
  )
)
example(
  "Go",
  "go and Debian's package of lib/pq",
  Effect.map(buildGo, (command) => (command === undefined ? undefined : { command, args: [] }))
)
