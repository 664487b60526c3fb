import { useQuery } from "@tanstack/react-query"
import { sessionQuery } from "./queries.ts"

/** Who uses the console, as the server knows them; undefined until it has said so. */
export const useCaller = () => useQuery(sessionQuery).data

/** Whether they may change something. What they may not do is not shown: the server would refuse it. */
export const useMayChange = (): boolean => useCaller()?.role === "operator"
