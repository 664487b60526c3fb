/**
 * The folder in which a server keeps its data and its log.
 *
 * @since 0.1.0
 */
import { mkdir, mkdtemp, rm } from "node:fs/promises"
import { tmpdir } from "node:os"
import { join, resolve } from "node:path"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import { EmbeddedServerError } from "./EmbeddedServer.ts"

/**
 * The absolute path of the given folder, created where it does not exist; or of a temporary one where none is given,
 * which is removed when the scope closes.
 *
 * @since 0.1.0
 * @category constructors
 */
export const make = (
  server: EmbeddedServerError["server"],
  directory: string | undefined
): Effect.Effect<string, EmbeddedServerError, Scope.Scope> =>
  directory === undefined
    ? Effect.acquireRelease(
        attempt(server, "a temporary data directory cannot be created", () =>
          mkdtemp(join(tmpdir(), `clickhouse-outbox-${server.toLowerCase()}-`))
        ),
        remove
      )
    : attempt(server, "the data directory cannot be created", async () => {
        await mkdir(directory, { recursive: true })
        return resolve(directory)
      })

/**
 * Removes a folder. What cannot be removed is left to the system, in whose folder for temporary files it lies.
 *
 * @since 0.1.0
 * @category utilities
 */
export const remove = (directory: string): Effect.Effect<void> =>
  Effect.ignore(Effect.tryPromise(() => rm(directory, { recursive: true, force: true, maxRetries: 3 })))

/**
 * An action on the folder, whose failure is explained.
 *
 * @since 0.1.0
 * @category utilities
 */
export const attempt = <A>(
  server: EmbeddedServerError["server"],
  what: string,
  action: () => Promise<A>
): Effect.Effect<A, EmbeddedServerError> =>
  Effect.tryPromise({
    try: action,
    catch: (cause) =>
      new EmbeddedServerError({ server, reason: "DataDirectory", detail: `${what} (${cause})`, log: "" })
  })
