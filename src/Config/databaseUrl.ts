/** The parameters of DATABASE_URL. One that nobody knows would be ignored, and so a misspelt sslmode be no TLS. */

/** https://www.postgresql.org/docs/18/libpq-connect.html#LIBPQ-PARAMKEYWORDS, and after them those of pg alone. */
const KNOWN = [
  ...["host", "hostaddr", "port", "dbname", "user", "password", "passfile", "require_auth", "channel_binding"],
  ...["connect_timeout", "client_encoding", "options", "application_name", "fallback_application_name"],
  ...["keepalives", "keepalives_idle", "keepalives_interval", "keepalives_count", "tcp_user_timeout", "replication"],
  ...["gssencmode", "sslmode", "sslnegotiation", "sslcompression", "sslcert", "sslkey", "sslkeylogfile", "sslpassword"],
  ...["sslcertmode", "sslrootcert", "sslcrl", "sslcrldir", "sslsni", "requirepeer", "ssl_min_protocol_version"],
  ...["ssl_max_protocol_version", "min_protocol_version", "max_protocol_version", "krbsrvname", "gsslib"],
  ...["gssdelegation", "scram_client_key", "scram_server_key", "service", "target_session_attrs", "load_balance_hosts"],
  ...["oauth_issuer", "oauth_client_id", "oauth_client_secret", "oauth_scope"],
  ...["database", "encoding", "ssl", "uselibpqcompat", "statement_timeout", "lock_timeout", "query_timeout"],
  ...["idle_in_transaction_session_timeout"]
]

/** How many characters have to be put in, taken out or changed. */
const distance = (from: string, to: string): number => {
  let row = Array.from({ length: to.length + 1 }, (_, n) => n)
  for (const [i, character] of Array.from(from).entries()) {
    const next = [i + 1]
    for (let j = 0; j < to.length; j++) {
      const changed = (row[j] ?? 0) + (character === to[j] ? 0 : 1)
      next.push(Math.min(changed, (row[j + 1] ?? 0) + 1, (next[j] ?? 0) + 1))
    }
    row = next
  }
  return row.at(-1) ?? 0
}

const nearestOf = (name: string): string =>
  KNOWN.reduce((nearest, known) =>
    distance(name.toLowerCase(), known) < distance(name.toLowerCase(), nearest) ? known : nearest
  )

/** Looks like a name, so that a part of a password is not shown as one. */
const NAME = /^\w{1,63}$/

/** What is wrong with the parameters of a URL that can be read. */
export const parameterProblem = (url: URL): string | undefined => {
  const unknown = [...url.searchParams.keys()].find((name) => !KNOWN.includes(name))
  if (unknown === undefined) return undefined
  const said = NAME.test(unknown) ? `"${unknown}"` : "that is none"
  return `has a parameter ${said}, which would be ignored: do you mean ${nearestOf(unknown)}?`
}
