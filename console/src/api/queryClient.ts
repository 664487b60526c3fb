import { QueryClient } from "@tanstack/react-query"

/** How often what is shown is fetched again while the page is visible. */
export const LIVE_MILLIS = 2_000
export const LIST_MILLIS = 5_000

export const queryClient = new QueryClient({
  defaultOptions: {
    queries: {
      // Every view asks again by itself within seconds: a failed request is shown at once, not after hidden retries.
      retry: false,
      // The server may be on this machine, whatever the browser thinks of its network.
      networkMode: "always",
      structuralSharing: false
    },
    mutations: { retry: false, networkMode: "always" }
  }
})
