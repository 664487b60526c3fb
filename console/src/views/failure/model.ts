import type { Answer, Client } from "../../api/client.ts"

export type Failure = Answer<Client["failures"]["get"]>
