/**
 * The console: files that a build has put into `dist/console`, and nothing else of this machine.
 *
 * They hold no data, so everybody who reaches the server gets them, without a token and from wherever a link led here.
 * What they show they ask of the API, which looks at who asks.
 */
import { createHash } from "node:crypto"
import { fileURLToPath } from "node:url"
import * as FileSystem from "@effect/platform/FileSystem"
import * as HttpServerRequest from "@effect/platform/HttpServerRequest"
import * as HttpServerResponse from "@effect/platform/HttpServerResponse"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"

/** The same seen from `src` and from `dist`. */
export const FOLDER = fileURLToPath(new URL("../../dist/console", import.meta.url))

const INDEX = "index.html"

/** Nothing is loaded from elsewhere, nothing is run that is not a file of the build, and nobody frames it. */
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

/** The console's answer, if the request is for the console: a file of it, or a page that it draws in the browser. */
export const answer = (
  folder: string
): Effect.Effect<
  Option.Option<HttpServerResponse.HttpServerResponse>,
  never,
  FileSystem.FileSystem | HttpServerRequest.HttpServerRequest
> =>
  Effect.gen(function* () {
    const { headers, method, url } = yield* HttpServerRequest.HttpServerRequest
    const path = decode(url)
    if (path === undefined || (method !== "GET" && method !== "HEAD")) return Option.none()
    const fs = yield* FileSystem.FileSystem
    // Only what the folder is found to contain is ever read, so no path leads out of it.
    const listed = yield* Effect.orElseSucceed(fs.readDirectory(folder, { recursive: true }), () => [])
    const files = new Set(listed.map((file) => file.replaceAll("\\", "/")))
    if (!files.has(INDEX)) return path === "/" ? Option.some(notBuilt) : Option.none()
    const file = fileOf(path, files, headers.accept ?? "")
    if (file === undefined) return Option.none()
    const content = yield* Effect.option(fs.readFile(`${folder}/${file}`))
    return Option.map(content, (bytes) => respond(file, bytes, headers["if-none-match"]))
  })

const decode = (url: string): string | undefined => {
  try {
    return decodeURIComponent(url.replace(/[?#].*/s, ""))
  } catch {
    return undefined
  }
}

/** A page that is opened by its address has no file: the index draws it. Programs are told that there is nothing. */
const fileOf = (path: string, files: ReadonlySet<string>, accept: string): string | undefined => {
  if (path === "/") return INDEX
  const name = path.slice(1)
  const isFile = /\.[^/]*$/.test(name)
  if (isFile) return files.has(name) ? name : undefined
  return accept.includes("text/html") ? INDEX : undefined
}

const respond = (file: string, bytes: Uint8Array, known: string | undefined) => {
  const etag = `"${createHash("sha256").update(bytes).digest("base64url")}"`
  const headers = {
    ...HEADERS,
    etag,
    "cache-control": file.startsWith(IMMUTABLE) ? "public, max-age=31536000, immutable" : "no-cache"
  }
  if (known === etag) return HttpServerResponse.empty({ status: 304, headers })
  const type = TYPES[file.slice(file.lastIndexOf(".") + 1)] ?? "application/octet-stream"
  return HttpServerResponse.uint8Array(bytes, { contentType: type, headers })
}

const notBuilt = HttpServerResponse.text(
  'The console was not built. Run "npm run build" where the relay was started from, and load this page again. /docs describes the API.\n',
  { status: 404, headers: { ...HEADERS, "cache-control": "no-store" } }
)
