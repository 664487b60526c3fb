/**
 * The pictures of `docs/images`, of a relay that runs and has an open failure, such as the demo's:
 *
 *     npm run demo -- --console-port 8686
 *     npm run screenshots -- http://127.0.0.1:8686
 */
import { mkdirSync } from "node:fs"
import { join } from "node:path"
import { fileURLToPath } from "node:url"
import * as Effect from "effect/Effect"
import type { Page } from "playwright-core"
import { launch, open } from "../test/support/browser.ts"

const [url = "http://127.0.0.1:8686"] = process.argv.slice(2)

const FOLDER = fileURLToPath(new URL("../docs/images", import.meta.url))

const VIEWPORT = { width: 1280, height: 820 }

/** Digits in the editor that ClickHouse does not take. */
const TOO_LARGE = /\d{20,}/

const correct = async (page: Page) => {
  await page
    .getByRole("link", { name: /^#\d+$/ })
    .last()
    .click()
  const editor = page.getByRole("textbox", { name: "event_context, as JSON" })
  await editor.getByText(TOO_LARGE).waitFor()
  const text = (await editor.locator(".cm-line").allInnerTexts()).join("\n")
  await editor.click()
  await page.keyboard.press("Control+a")
  await page.keyboard.insertText(text.replace(TOO_LARGE, "1234.50"))
  await page.locator(".cm-deletedChunk").waitFor()
  // The editor looks at it a moment later.
  await page.locator(".problems p").waitFor({ state: "detached" })
  await page.getByRole("heading", { level: 1 }).click()
}

const VIEWS = [
  { name: "overview", path: "/", ready: (page: Page) => page.locator(".chart svg").last().waitFor() },
  { name: "failures", path: "/failures", ready: (page: Page) => page.getByRole("row").nth(1).waitFor() },
  { name: "failure", path: "/failures", ready: correct },
  { name: "events", path: "/events", ready: (page: Page) => page.getByRole("row").nth(1).waitFor() }
]

const take = (scheme: "light" | "dark") =>
  Effect.gen(function* () {
    const browser = yield* launch
    yield* Effect.forEach(VIEWS, ({ name, path, ready }) =>
      Effect.gen(function* () {
        const { page } = yield* open(browser, `${url}${path}`, { colorScheme: scheme, viewport: VIEWPORT })
        yield* Effect.promise(async () => {
          await ready(page)
          await page.screenshot({ path: join(FOLDER, `console-${name}-${scheme}.png`) })
        })
      }).pipe(Effect.scoped)
    )
  }).pipe(Effect.scoped)

mkdirSync(FOLDER, { recursive: true })
await Effect.runPromise(Effect.forEach(["light", "dark"] as const, take))
