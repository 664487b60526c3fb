/** Text between tabs and line ends, as Postgres' COPY and ClickHouse's TabSeparated and parameters take it. */

const ESCAPES: Readonly<Record<string, string>> = { "\\": "\\\\", "'": "\\'", "\t": "\\t", "\n": "\\n", "\r": "\\r" }

const escapeAll =
  (characters: RegExp) =>
  (text: string): string =>
    text.replaceAll(characters, (character) => ESCAPES[character] ?? character)

export const escapeField = escapeAll(/[\\\t\n\r]/g)

/** Of what stands between apostrophes too. */
export const escapeQuoted = escapeAll(/[\\'\t\n\r]/g)
