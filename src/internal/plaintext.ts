/** Connections that anybody in between can read: whether one is such, and the warning. */
import * as Effect from "effect/Effect"

const LOOPBACK = /^(?:localhost|127(?:\.\d{1,3}){3}|::1|\[::1\])$/i

/**
 * Whether nobody but this machine can reach it: `localhost`, 127.0.0.0/8 or ::1.
 *
 * @internal
 */
export const isLoopback = (host: string): boolean => LOOPBACK.test(host)

/** A path is a Unix socket. */
const leavesThisMachine = (host: string): boolean => !host.startsWith("/") && !isLoopback(host)

/**
 * Warns of a connection without TLS, if it goes to another machine.
 *
 * @internal
 */
export const warn = ({ host, name, set }: { readonly host: string; readonly name: string; readonly set: string }) =>
  leavesThisMachine(host)
    ? Effect.logWarning(
        `The connection to ${name} at ${host} has no TLS: whoever is in between can read the events and, if it is sent, the password. ${set}`
      )
    : Effect.void
