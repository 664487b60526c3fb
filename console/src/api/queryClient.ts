import { QueryClient } from "@tanstack/react-query"

/** What is shown is at most so old while somebody looks at it. */
export const LIVE_MILLIS = 2_000
export const LIST_MILLIS = 5_000

export const queryClient = new QueryClient({
  defaultOptions: {
    queries: {
      // Every view asks again by itself within seconds: a failed request is shown at once, not after hidden retries.
      retry: false,
      // It asks its own server, which is there or not whatever the browser thinks of its network.
      networkMode: "always",
      structuralSharing: false
    },
    mutations: { retry: false, networkMode: "always" }
  }
})
