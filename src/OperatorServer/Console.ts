/**
 * The console: the files that a build has put into `dist/console`, and nothing else of this machine.
 *
 * They hold no data, so everybody who reaches the server gets them, without a token and from whatever page a link led
 * here. The data comes from the API, which checks who asks.
 */
import { createHash } from "node:crypto"
import { fileURLToPath } from "node:url"
import * as FileSystem from "@effect/platform/FileSystem"
import * as HttpServerRequest from "@effect/platform/HttpServerRequest"
import * as HttpServerResponse from "@effect/platform/HttpServerResponse"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as SynchronizedRef from "effect/SynchronizedRef"

/** The same path from `src` and from `dist`. */
export const FOLDER = fileURLToPath(new URL("../../dist/console", import.meta.url))

const INDEX = "index.html"

/** Loads nothing from elsewhere, runs nothing but the build's files, and is in nobody's frame. */
const HEADERS = {
  "content-security-policy":
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; font-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
  "cross-origin-opener-policy": "same-origin",
  "cross-origin-resource-policy": "same-origin",
  "referrer-policy": "no-referrer",
  "x-content-type-options": "nosniff"
}

/** The build puts a hash into the names of what is in here. */
const IMMUTABLE = "assets/"

const TYPES: Readonly<Record<string, string>> = {
  css: "text/css; charset=utf-8",
  html: "text/html; charset=utf-8",
  ico: "image/x-icon",
  js: "text/javascript; charset=utf-8",
  json: "application/json",
  png: "image/png",
  svg: "image/svg+xml",
  txt: "text/plain; charset=utf-8",
  webmanifest: "application/manifest+json",
  woff2: "font/woff2"
}

interface File {
  readonly bytes: Uint8Array
  readonly etag: string
}

type Files = ReadonlyMap<string, File>

/** What it answers to a path, if that is one of the console: a file, or a page that is drawn in the browser. */
export type Console = (
  path: string
) => Effect.Effect<Option.Option<HttpServerResponse.HttpServerResponse>, never, HttpServerRequest.HttpServerRequest>

/**
 * Everybody may ask, so no request reads the disk once the build is there: its files are read once and kept. Only names
 * that the folder was found to contain are answered, so no path leads out of it.
 */
export const make = (folder: string): Effect.Effect<Console, never, FileSystem.FileSystem> =>
  Effect.gen(function* () {
    const fs = yield* FileSystem.FileSystem
    const kept = yield* SynchronizedRef.make<Files>(NONE)
    const read = SynchronizedRef.updateAndGetEffect(kept, (files) =>
      files.has(INDEX) ? Effect.succeed(files) : readFolder(fs, folder)
    )
    return Effect.fn(function* (path: string) {
      const { headers, method } = yield* HttpServerRequest.HttpServerRequest
      if (method !== "GET" && method !== "HEAD") return Option.none()
      const files = yield* read
      if (!files.has(INDEX)) return path === "/" ? Option.some(notBuilt) : Option.none()
      const name = nameOf(path, headers.accept ?? "")
      const file = name === undefined ? undefined : files.get(name)
      if (name === undefined || file === undefined) return Option.none()
      return Option.some(respond(name, file, headers["if-none-match"]))
    })
  })

const NONE: Files = new Map()

/** Nothing unless the build has made its index. */
const readFolder = (fs: FileSystem.FileSystem, folder: string): Effect.Effect<Files> =>
  Effect.gen(function* () {
    if (!(yield* fs.exists(`${folder}/${INDEX}`))) return NONE
    const listed = yield* fs.readDirectory(folder, { recursive: true })
    const names = yield* Effect.filter(listed, (name) =>
      Effect.map(fs.stat(`${folder}/${name}`), ({ type }) => type === "File")
    )
    const files = yield* Effect.forEach(names, (name) =>
      Effect.map(
        fs.readFile(`${folder}/${name}`),
        (bytes) => [name.replaceAll("\\", "/"), { bytes, etag: etagOf(bytes) }] as const
      )
    )
    return new Map(files)
  }).pipe(Effect.orElseSucceed(() => NONE))

const etagOf = (bytes: Uint8Array) => `"${createHash("sha256").update(bytes).digest("base64url")}"`

/** A page that is opened by its address has no file: the index draws it. Programs get a 404. */
const nameOf = (path: string, accept: string): string | undefined => {
  if (path === "/") return INDEX
  if (/\.[^/]*$/.test(path)) return path.slice(1)
  return accept.includes("text/html") ? INDEX : undefined
}

const respond = (name: string, { bytes, etag }: File, known: string | undefined) => {
  const headers = {
    ...HEADERS,
    etag,
    "cache-control": name.startsWith(IMMUTABLE) ? "public, max-age=31536000, immutable" : "no-cache"
  }
  if (known === etag) return HttpServerResponse.empty({ status: 304, headers })
  const type = TYPES[name.slice(name.lastIndexOf(".") + 1)] ?? "application/octet-stream"
  return HttpServerResponse.uint8Array(bytes, { contentType: type, headers })
}

const notBuilt = HttpServerResponse.text(
  'The console was not built. Run "npm run build" where the relay was started from, and load this page again. /docs describes the API.\n',
  { status: 404, headers: { ...HEADERS, "cache-control": "no-store" } }
)
