/** Lists are read page by page, by key, so that what is added meanwhile shifts nothing. */

/** What comes after a key, and how much of it. */
export interface Page<Key> {
  readonly after?: Key | undefined
  /** Rows at most: {@link DEFAULT_LIMIT} unless set. */
  readonly limit?: number | undefined
}

export const DEFAULT_LIMIT = 50
