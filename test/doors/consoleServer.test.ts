/** The console's files, as the relay's server hands them out. */
import * as Http from "node:http"
import * as FileSystem from "@effect/platform/FileSystem"
import * as NodeContext from "@effect/platform-node/NodeContext"
import { expect, layer } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type * as Config from "../../src/Config.ts"
import { version } from "../../src/internal/version.ts"
import * as Environment from "../support/environment.ts"
import { type Asked, ask, config, services, start, TOKEN, withToken } from "../support/operator.ts"

const live = Layer.provideMerge(services, Environment.layer())

const INDEX = '<!doctype html><script type="module" src="/assets/index-3f2a.js"></script>'
const SCRIPT = 'console.log("the console")'

/** A server with a console of two files, beside which lies a secret. */
const serve = (http?: Config.Http) =>
  Effect.gen(function* () {
    const fs = yield* FileSystem.FileSystem
    const folder = yield* fs.makeTempDirectoryScoped()
    yield* fs.makeDirectory(`${folder}/console/assets`, { recursive: true })
    yield* fs.writeFileString(`${folder}/secret.txt`, "secret")
    yield* fs.writeFileString(`${folder}/console/index.html`, INDEX)
    yield* fs.writeFileString(`${folder}/console/assets/index-3f2a.js`, SCRIPT)
    const url = yield* start(http, { console: `${folder}/console` })
    return Object.assign((request: string, asked?: Asked) => ask(url, request, asked), { url })
  }).pipe(Effect.provide(NodeContext.layer))

/** Asks for a path exactly as it is written: a URL would be tidied up before it is sent. */
const askRaw = (url: string, path: string) =>
  Effect.async<{ readonly status: number | undefined; readonly text: string }>((resume) => {
    const { hostname, port } = new URL(url)
    Http.get({ hostname, port, path, agent: false }, (response) => {
      let text = ""
      response.setEncoding("utf8").on("data", (chunk) => {
        text += chunk
      })
      response.on("end", () => resume(Effect.succeed({ status: response.statusCode, text })))
    })
  })

/** What browsers send when somebody opens an address. */
const opened = { headers: { accept: "text/html,application/xhtml+xml,*/*;q=0.8" } }

layer(live, { excludeTestServices: true })((it) => {
  it.scoped("The console is what the server's address opens, and is asked for again each time", () =>
    Effect.gen(function* () {
      const ask = yield* serve()
      const page = yield* ask("GET /", opened)
      expect(page).toMatchObject({ status: 200, text: INDEX, headers: { "content-type": "text/html; charset=utf-8" } })
      expect(page.headers["cache-control"]).toBe("no-cache")
      const { etag = "" } = page.headers
      const again = yield* ask("GET /", { headers: { "if-none-match": etag } })
      expect([again.status, again.text]).toEqual([304, ""])
    })
  )

  it.scoped("The console has files that browsers keep for ever, because their names change with them", () =>
    Effect.gen(function* () {
      const ask = yield* serve()
      const script = yield* ask("GET /assets/index-3f2a.js?v=1")
      expect(script).toMatchObject({
        status: 200,
        text: SCRIPT,
        headers: {
          "content-type": "text/javascript; charset=utf-8",
          "cache-control": "public, max-age=31536000, immutable"
        }
      })
      const head = yield* ask("HEAD /assets/index-3f2a.js")
      expect([head.status, head.text, head.headers["content-length"]]).toEqual([200, "", String(SCRIPT.length)])
    })
  )

  it.scoped("The console opens at every page's own address, where a browser asks", () =>
    Effect.gen(function* () {
      const ask = yield* serve()
      for (const path of ["/failures", "/failures/3?tab=audit", "/events/01890a5d-ac96-774b-bcce-b302099a8057"]) {
        expect(yield* ask(`GET ${path}`, opened), path).toMatchObject({ status: 200, text: INDEX })
      }
    })
  )

  it.scoped("The console is in nobody's way: programs, probes and the API are answered as ever", () =>
    Effect.gen(function* () {
      const ask = yield* serve()
      expect((yield* ask("GET /healthz", opened)).json).toEqual({ status: "ok" })
      expect((yield* ask("GET /api/nope", opened)).status).toBe(404)
      expect((yield* ask("GET /docs", opened)).text).toContain("swagger")
      for (const request of ["GET /failures", "POST /failures", "GET /assets/gone.js", "GET /assets"]) {
        expect(yield* ask(request), request).toMatchObject({
          status: 404,
          json: { type: "urn:clickhouse-outbox:no-such-endpoint" }
        })
      }
    })
  )

  it.scoped("The console hands out its own files and no other", () =>
    Effect.gen(function* () {
      const { url } = yield* serve()
      for (const path of [
        "/../secret.txt",
        "/assets/../../secret.txt",
        "/%2e%2e/secret.txt",
        "/..%2fsecret.txt",
        "/assets/..%5c..%5csecret.txt",
        "//secret.txt",
        "/%00",
        "/%zz",
        "/assets%00.js"
      ]) {
        const { status, text } = yield* askRaw(url, path)
        expect({ path, status }).toEqual({ path, status: 404 })
        expect(text).not.toBe("secret")
      }
    })
  )

  it.scoped("The console lets a browser load and run nothing else, nor put it into a frame", () =>
    Effect.gen(function* () {
      const ask = yield* serve()
      for (const request of ["GET /", "GET /assets/index-3f2a.js"]) {
        const { headers } = yield* ask(request)
        const policy = String(headers["content-security-policy"])
        for (const rule of [
          "default-src 'none'",
          "script-src 'self'",
          "style-src 'self'",
          "connect-src 'self'",
          "frame-ancestors 'none'",
          "base-uri 'none'",
          "form-action 'none'"
        ]) {
          expect(policy.split("; ")).toContain(rule)
        }
        expect(policy).not.toContain("unsafe")
        expect(headers).toMatchObject({
          "x-content-type-options": "nosniff",
          "referrer-policy": "no-referrer",
          "cross-origin-opener-policy": "same-origin",
          "cross-origin-resource-policy": "same-origin"
        })
      }
    })
  )

  it.scoped("The console needs no token, for it holds no data and learns whether the API needs one", () =>
    Effect.gen(function* () {
      const guarded = yield* serve(withToken)
      expect((yield* guarded("GET /", opened)).status).toBe(200)
      expect((yield* guarded("GET /api/session")).status).toBe(401)
      const wrong = { headers: { authorization: "Bearer wrong" } }
      expect((yield* guarded("GET /api/session", wrong)).status).toBe(401)
      const right = { headers: { authorization: `Bearer ${TOKEN}` } }
      expect((yield* guarded("GET /api/session", right)).json).toMatchObject({ version, token_required: true })
      const open = yield* serve(config)
      expect((yield* open("GET /api/session")).json).toMatchObject({ token_required: false })
    })
  )

  it.scoped(
    "The console needs no token, for it holds no data and opens from a link elsewhere, while the API answers nobody else's page",
    () =>
      Effect.gen(function* () {
        const ask = yield* serve(config)
        const linked = { headers: { ...opened.headers, "sec-fetch-site": "cross-site" } }
        expect((yield* ask("GET /failures/3", linked)).status).toBe(200)
        expect((yield* ask("GET /api/session", linked)).status).toBe(403)
      })
  )

  it.scoped("The console is read from the disk once, however often it is asked for", () =>
    Effect.gen(function* () {
      const fs = yield* FileSystem.FileSystem
      const folder = yield* fs.makeTempDirectoryScoped()
      yield* fs.writeFileString(`${folder}/index.html`, INDEX)
      yield* fs.writeFileString(`${folder}/icon.svg`, "<svg/>")
      const url = yield* start(config, { console: folder })
      expect((yield* ask(url, "GET /", opened)).text).toBe(INDEX)
      for (const file of ["index.html", "icon.svg"]) yield* fs.remove(`${folder}/${file}`)
      expect((yield* ask(url, "GET /", opened)).text).toBe(INDEX)
      expect((yield* ask(url, "GET /icon.svg")).text).toBe("<svg/>")
    }).pipe(Effect.provide(NodeContext.layer))
  )

  it.scoped("The console says what to run where it was not built, and is there once it was", () =>
    Effect.gen(function* () {
      const fs = yield* FileSystem.FileSystem
      const folder = yield* fs.makeTempDirectoryScoped()
      const url = yield* start(config, { console: `${folder}/console` })
      const before = yield* ask(url, "GET /", opened)
      expect(before).toMatchObject({ status: 404, headers: { "content-type": "text/plain" } })
      expect(before.text).toContain('Run "npm run build"')
      expect((yield* ask(url, "GET /failures", opened)).status).toBe(404)
      yield* fs.makeDirectory(`${folder}/console`)
      yield* fs.writeFileString(`${folder}/console/index.html`, INDEX)
      expect((yield* ask(url, "GET /", opened)).text).toBe(INDEX)
    }).pipe(Effect.provide(NodeContext.layer))
  )
})
