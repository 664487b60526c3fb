/** Correcting refused events at the command line, in an editor or without. */
import { existsSync, readFileSync, rmSync } from "node:fs"
import { dirname, join } from "node:path"
import * as FileSystem from "@effect/platform/FileSystem"
import * as SqlClient from "@effect/sql/SqlClient"
import { expect, layer } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as BatchFailures from "../../src/BatchFailures.ts"
import * as Event from "../../src/Event.ts"
import * as Cli from "../support/cli.ts"
import * as Environment from "../support/environment.ts"
import * as Failures from "../support/failures.ts"

const live = Layer.provideMerge(BatchFailures.layer, Environment.layer())

const DIGITS = "123456789012345678901234567890"

/** A failure of one event whose context no double holds. */
const failure = Effect.gen(function* () {
  const made = yield* Failures.make([Event.make({ eventType: "edited", eventContext: {} })])
  const sql = yield* SqlClient.SqlClient
  yield* sql`
    UPDATE outbox.batch_failure_event SET event_context = ${`{"n": ${DIGITS}, "text": "\u009b"}`}::jsonb
    WHERE failure_id = ${made.failureId}
  `
  return { ...made, id: String(made.failureId) }
})

/** An editor that is a shell script, in which $file is what it is to edit. */
const editor = (script: string) =>
  Effect.gen(function* () {
    const fs = yield* FileSystem.FileSystem
    const directory = yield* fs.makeTempDirectoryScoped()
    const path = join(directory, "an editor")
    const opened = join(directory, "opened")
    const remember = `for file; do :; done; printf %s "$file" > "${opened}"`
    yield* fs.writeFileString(path, `#!/bin/sh\n${remember}\n${script}\n`, { mode: 0o700 })
    return {
      variables: { EDITOR: `"${path}"` },
      /** What it was to edit. */
      file: Effect.orDie(fs.readFileString(opened))
    }
  })

/** Whether the file is gone, and the directory that it was in. */
const isGone = (file: string) => !existsSync(dirname(file))

const contextOf = (made: Effect.Effect.Success<typeof failure>) =>
  Effect.flatMap(BatchFailures.BatchFailures, (failures) => failures.event(made.failureId, made.eventId))

layer(live, { excludeTestServices: true })((it) => {
  it.scoped(
    "failures edit opens the editor that is named, with its arguments, on a file that nobody else reads and nobody finds",
    () =>
      Effect.gen(function* () {
        const made = yield* failure
        const { file, variables } = yield* editor(
          `[ "$1" = --wait ] && ls -l "$file" | cut -c 1-10 && cat "$file" &&
        sed s/${DIGITS}/9007199254740993/ "$file" > "$file.new" && mv "$file.new" "$file"`
        )
        const { code, stderr, stdout } = yield* Cli.run(["failures", "edit", made.id], {
          variables: { ...variables, VISUAL: `${variables.EDITOR} --wait`, EDITOR: "false" }
        })
        expect({ code, stderr }).toEqual({ code: 0, stderr: "" })
        const event = yield* contextOf(made)
        expect(stdout).toBe(
          [
            "-rw-------",
            "{",
            '  "event_type": "edited",',
            `  "event_date_time": "${event.eventDateTime}",`,
            '  "event_context": {',
            `    "n": ${DIGITS},`,
            '    "text": "\\u009b"',
            "  },",
            '  "metadata_version": 1',
            "}",
            `corrected event ${made.eventId} of failure ${made.id}`,
            ""
          ].join("\n")
        )
        expect(event.eventContext).toBe('{"n": 9007199254740993, "text": "\u009b"}')
        expect(isGone(yield* file)).toBe(true)
      })
  )

  it.scoped("failures edit changes nothing if the text is as it was, or empty, or if the editor fails", () =>
    Effect.gen(function* () {
      const made = yield* failure
      const edit = (script: string, ...options: ReadonlyArray<string>) =>
        Effect.gen(function* () {
          const { file, variables } = yield* editor(script)
          const ended = yield* Cli.run(["failures", "edit", made.id, ...options], { variables })
          expect(isGone(yield* file)).toBe(true)
          return ended
        })
      const [laidOutAnew, emptied, failed] = yield* Effect.forEach(
        [`tr -d '\\n' < "$file" > "$file.new" && mv "$file.new" "$file"`, ': > "$file"', "exit 3"],
        (script) => edit(script),
        { concurrency: 2 }
      )
      expect(laidOutAnew).toEqual(Cli.succeeded("nothing changed\n"))
      expect(emptied).toEqual(Cli.succeeded("nothing changed\n"))
      expect(failed).toEqual(
        Cli.failed(expect.stringMatching(/^The editor ".+" ended with 3\. Nothing was changed\n$/))
      )
      expect(yield* edit("true", "--replay")).toEqual(
        Cli.failed(expect.stringMatching(/^Nothing was changed, so nothing was replayed\. .+\n$/))
      )
      expect(yield* contextOf(made)).toMatchObject({ correctedAt: null, replayedAt: null })
    })
  )

  it.scoped("failures edit says what is wrong with a text and keeps it", () =>
    Effect.gen(function* () {
      const made = yield* failure
      const edit = (text: string) =>
        Effect.gen(function* () {
          const { file, variables } = yield* editor(`printf %s '${text}' > "$file"`)
          const { code, stderr, stdout } = yield* Cli.run(["failures", "edit", made.id], { variables })
          expect({ code, stdout }).toEqual({ code: 1, stdout: "" })
          const kept = yield* file
          expect(stderr).toContain(`What you wrote is kept in ${kept}\n`)
          expect(readFileSync(kept, "utf8")).toBe(text)
          rmSync(dirname(kept), { recursive: true })
          return stderr
        })
      const [noJson, noContext] = yield* Effect.forEach(['{ "event_type":', '{"event_context": [], "x": 1}'], edit, {
        concurrency: 2
      })
      expect(noJson).toContain(
        `\nEvent ${made.eventId} was not changed. Correct and try again:\n  the correction is not JSON`
      )
      expect(noContext).toContain("\n  x: cannot be corrected; ")
      expect((yield* contextOf(made)).correctedAt).toBeNull()
    })
  )

  it.scoped("failures edit leaves no file when it is interrupted", () =>
    Effect.gen(function* () {
      const made = yield* failure
      const { file, variables } = yield* editor("echo open >&2; exec sleep 60")
      const { ended, said, signal } = yield* Cli.start(["failures", "edit", made.id], { variables })
      yield* said("open")
      yield* signal("SIGINT")
      expect((yield* ended).code).toBe(130)
      expect(isGone(yield* file)).toBe(true)
    })
  )

  it.effect("failures edit takes what to change from options and standard input, every digit as it is written", () =>
    Effect.gen(function* () {
      const made = yield* failure
      const options = ["--context", "-", "--type", "renamed", "--metadata-version", "9223372036854775807"]
      const ended = yield* Cli.run(["failures", "edit", made.id, ...options, "--time", "2026-01-31T12:00:00.123456Z"], {
        stdin: `{"n": ${DIGITS}1}`
      })
      expect(ended).toEqual(Cli.succeeded(`corrected event ${made.eventId} of failure ${made.id}\n`))
      expect(yield* contextOf(made)).toMatchObject({
        eventContext: `{"n": ${DIGITS}1}`,
        eventType: "renamed",
        metadataVersion: "9223372036854775807",
        eventDateTime: "2026-01-31T12:00:00.123456Z"
      })
    })
  )

  it.effect(
    "failures edit is refused before anybody writes anything: which event, no JSON, closed, nowhere to edit",
    () =>
      Effect.gen(function* () {
        const failures = yield* BatchFailures.BatchFailures
        const several = yield* Failures.make(["a", "b"].map((eventType) => Event.make({ eventType, eventContext: {} })))
        const [one, closed] = [yield* failure, yield* failure]
        yield* failures.discard(closed.failureId, { note: "test data", actor: Failures.ADA })
        const ended = yield* Effect.forEach(
          [[`${several.failureId}`], [one.id, "--context", '{"a":'], [closed.id], [one.id]],
          (args) => Cli.run(["failures", "edit", ...args]),
          { concurrency: 2 }
        )
        expect(ended).toEqual([
          Cli.failed(
            `Failure ${several.failureId} has 2 events: say which with --event. "clickhouse-outbox failures show ${several.failureId}" lists their ids\n`
          ),
          Cli.failed(expect.stringMatching(/^--context is not JSON: ./)),
          Cli.failed(`Failure ${closed.id} is discarded already. Nothing was changed\n`),
          Cli.failed("There is no terminal to edit on: say what to change with options. Nothing was changed\n")
        ])
      })
  )
})
