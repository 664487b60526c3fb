/** Whom the operator API knows by name: tokens, and a proxy that says who somebody is. */
import { readFileSync } from "node:fs"
import { isIP } from "node:net"
import * as Config from "effect/Config"
import * as ConfigError from "effect/ConfigError"
import * as Either from "effect/Either"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import { CallerName, Role } from "../internal/callers.ts"

/** A token that belongs to somebody. Its hash is all that the server knows of it. */
export interface NamedToken {
  readonly name: CallerName
  readonly role: Role
  /** Of the token, in small hexadecimals. */
  readonly sha256: string
}

/** Addresses that begin with the same bits; one address, if these are all of its bits. */
export interface Network {
  readonly address: string
  readonly prefix: number
}

/** A proxy that has people sign in, and names them in a header. */
export interface TrustedProxy {
  /** Where its connections come from. From anywhere else the header says nothing. */
  readonly networks: ReadonlyArray<Network>
  /** In small letters. */
  readonly header: string
  readonly operators: { readonly _tag: "Everybody" } | { readonly _tag: "Named"; readonly names: ReadonlySet<string> }
}

type Parsed<A> = Either.Either<A, ConfigError.ConfigError>

const invalid = (message: string) => ConfigError.InvalidData([], message)

const words = (text: string): ReadonlyArray<string> => text.split(/[\s,]+/).filter((word) => word !== "")

/** What a variable says, or what an empty one would. */
const parsed = <A>(name: string, parse: (text: string) => Parsed<A>, empty: A): Config.Config<A> =>
  Config.string(name).pipe(Config.mapOrFail(parse), Config.withDefault(empty))

const Token = Schema.Struct({
  name: CallerName,
  role: Role,
  sha256: Schema.Lowercase.pipe(Schema.pattern(/^[0-9a-f]{64}$/))
})

const decodeToken = Schema.decodeUnknownEither(Token)

/** What is wrong with a line is told by its number: a token may stand where its hash should. */
const parseTokens = (text: string): Parsed<ReadonlyArray<NamedToken>> => {
  const tokens: Array<NamedToken> = []
  for (const [n, line] of text.split(/\r?\n|,/).entries()) {
    if (/^\s*(?:#|$)/.test(line)) continue
    const [name = "", role = "", sha256 = "", ...rest] = words(line)
    const token = decodeToken({ name, role, sha256 })
    if (Either.isLeft(token) || rest.length > 0) {
      return Either.left(
        invalid(
          `line ${n + 1} must be a name, "reader" or "operator", and a SHA-256 in hexadecimals, as "clickhouse-outbox token" prints it`
        )
      )
    }
    if (tokens.some(({ sha256 }) => sha256 === token.right.sha256)) {
      return Either.left(invalid(`line ${n + 1} has the token of a line before it: whose it is must be certain`))
    }
    tokens.push(token.right)
  }
  return Either.right(tokens)
}

const readTokens = (file: string): Parsed<ReadonlyArray<NamedToken>> =>
  file === ""
    ? Either.right([])
    : Either.try({
        try: () => readFileSync(file, "utf8"),
        catch: (error) => invalid(`cannot be read: ${error instanceof Error ? error.message : String(error)}`)
      }).pipe(Either.flatMap(parseTokens))

export const tokens: Config.Config<ReadonlyArray<NamedToken>> = Config.all({
  inline: parsed("OUTBOX_HTTP_TOKENS", parseTokens, []),
  file: parsed("OUTBOX_HTTP_TOKENS_FILE", readTokens, [])
}).pipe(
  Config.mapOrFail(({ file, inline }) =>
    inline.some(({ sha256 }) => file.some((other) => other.sha256 === sha256))
      ? Either.left(
          ConfigError.InvalidData(["OUTBOX_HTTP_TOKENS_FILE"], "has a token that OUTBOX_HTTP_TOKENS has as well")
        )
      : Either.right([...inline, ...file])
  )
)

const BITS: Readonly<Record<number, number>> = { 4: 32, 6: 128 }

const parseNetwork = (text: string): Option.Option<Network> => {
  const [, address = "", bits] = /^([^/]+)(?:\/(\d{1,3}))?$/.exec(text) ?? []
  const most = BITS[isIP(address)]
  if (most === undefined || address.includes("%")) return Option.none()
  const prefix = bits === undefined ? most : Number(bits)
  return prefix <= most ? Option.some({ address, prefix }) : Option.none()
}

const parseNetworks = (text: string): Parsed<ReadonlyArray<Network>> =>
  Option.all(words(text).map(parseNetwork)).pipe(
    Either.fromOption(() => invalid("must be IP addresses, or networks such as 10.1.0.0/16, with commas between"))
  )

const parseHeader = (text: string): Parsed<string> =>
  /^[\w-]+$/.test(text)
    ? Either.right(text.toLowerCase())
    : Either.left(invalid("must be the name of a header, such as X-Forwarded-User"))

const EVERYBODY = "*"

const NOBODY: TrustedProxy["operators"] = { _tag: "Named", names: new Set() }

const parseOperators = (text: string): Parsed<TrustedProxy["operators"]> => {
  const names = new Set(words(text))
  return Either.right(names.has(EVERYBODY) ? { _tag: "Everybody" } : { _tag: "Named", names })
}

export const proxy: Config.Config<Option.Option<TrustedProxy>> = Config.all({
  networks: parsed("OUTBOX_HTTP_PROXY_ADDRESSES", parseNetworks, []),
  header: parsed("OUTBOX_HTTP_PROXY_HEADER", parseHeader, "x-forwarded-user"),
  operators: parsed("OUTBOX_HTTP_PROXY_OPERATORS", parseOperators, NOBODY)
}).pipe(Config.map(Option.liftPredicate(({ networks }) => networks.length > 0)))
