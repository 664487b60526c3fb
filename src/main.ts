#!/usr/bin/env node
/** `clickhouse-outbox`: see Cli.ts, which is loaded when signals are heard. */
import { signalled } from "./internal/signals.ts"

const { main } = await import("./Cli.ts")
main(process.argv, signalled)
