interface Props {
  readonly query: {
    readonly hasNextPage: boolean
    readonly isFetchingNextPage: boolean
    readonly fetchNextPage: () => unknown
  }
}

/** Lists come page by page, by key, so that what is added meanwhile shifts nothing. */
export const LoadMore = ({ query }: Props) =>
  query.hasNextPage ? (
    <p className="more">
      <button type="button" disabled={query.isFetchingNextPage} onClick={() => query.fetchNextPage()}>
        {query.isFetchingNextPage ? "Loading…" : "Show older"}
      </button>
    </p>
  ) : null
