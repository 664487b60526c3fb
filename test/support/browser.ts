/** A real browser, driven as people use it: by roles and names. */
import { existsSync } from "node:fs"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import { type Browser, type BrowserContextOptions, chromium, type Page } from "playwright-core"

/** Debian's, unless `CHROMIUM` names another. */
export const CHROMIUM = process.env.CHROMIUM ?? "/usr/bin/chromium"

export const isInstalled = existsSync(CHROMIUM)

const ARGUMENTS = [
  "--no-sandbox",
  "--disable-gpu",
  "--disable-quic",
  "--no-first-run",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync"
]

/** With an empty profile, until the scope closes. */
export const launch: Effect.Effect<Browser, never, Scope.Scope> = Effect.acquireRelease(
  Effect.promise(() => chromium.launch({ executablePath: CHROMIUM, headless: true, args: ARGUMENTS })),
  (browser) => Effect.promise(() => browser.close())
)

export interface Tab {
  readonly page: Page
  /** What no view may have: errors on the browser's console, violations of the policy, requests to other hosts. */
  readonly complaints: ReadonlyArray<string>
}

/** What Chromium writes for every answer of 400 and above, also those that a view expects. */
const EXPECTED = /^Failed to load resource: the server responded with a status of 4\d\d/

/** A tab of its own, with storage of its own. */
export const open = (browser: Browser, url: string, options: BrowserContextOptions = {}) =>
  Effect.acquireRelease(
    Effect.promise(async () => {
      const context = await browser.newContext({ viewport: { width: 1280, height: 800 }, ...options })
      context.setDefaultTimeout(120_000)
      const page = await context.newPage()
      const complaints: Array<string> = []
      page.on("console", (message) => {
        if (message.type() !== "error" && message.type() !== "warning") return
        if (!EXPECTED.test(message.text())) complaints.push(`${message.type()}: ${message.text()}`)
      })
      page.on("pageerror", (error) => complaints.push(`thrown: ${error.message}`))
      page.on("request", (request) => {
        if (new URL(request.url()).origin !== new URL(url).origin) complaints.push(`asked ${request.url()}`)
      })
      await page.goto(url)
      return { page, complaints } satisfies Tab
    }),
    ({ page }) => Effect.promise(() => page.context().close())
  )
