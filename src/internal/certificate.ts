/** What to do about a server whose TLS certificate was not accepted. Nothing was sent to it, and no password. */
import * as Predicate from "effect/Predicate"

/** The variables that configure a database's address and its authority. */
interface Variables {
  readonly address: string
  readonly authority: string
}

const UNKNOWN_AUTHORITY = new Set([
  // One of the same name, with another key.
  "CERT_SIGNATURE_FAILURE",
  "DEPTH_ZERO_SELF_SIGNED_CERT",
  "SELF_SIGNED_CERT_IN_CHAIN",
  "UNABLE_TO_GET_ISSUER_CERT",
  "UNABLE_TO_GET_ISSUER_CERT_LOCALLY",
  "UNABLE_TO_VERIFY_LEAF_SIGNATURE"
])

/** Undefined where something else was wrong. */
export const advice = (error: unknown, { address, authority }: Variables): string | undefined => {
  if (!Predicate.hasProperty(error, "code") || !Predicate.isString(error.code)) return undefined
  const { code } = error
  if (UNKNOWN_AUTHORITY.has(code)) {
    return `No authority that is known here has signed its certificate (${code}): name the PEM file of the one that has in ${authority}`
  }
  switch (code) {
    case "ERR_TLS_CERT_ALTNAME_INVALID":
      return `Its certificate is for another name: use one of the names that it is for in ${address}`
    case "CERT_HAS_EXPIRED":
      return "Its certificate has expired: renew it on the server"
    case "CERT_NOT_YET_VALID":
      return "Its certificate is not valid yet: compare the clocks"
    default:
      return undefined
  }
}
