/** Which release this is. */
import { createRequire } from "node:module"

/** By the package's own name, so that it is found from `src`, from `dist`, and from a bundle beside a package.json. */
const manifest: { readonly version: string } = createRequire(import.meta.url)("clickhouse-outbox/package.json")

export const version = manifest.version
