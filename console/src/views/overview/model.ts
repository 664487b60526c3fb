import type { Answer, Client } from "../../api/client.ts"

export type Status = Answer<Client["outbox"]["status"]>
export type SystemsAnswer = Answer<Client["overview"]["systems"]>
export type OverviewAnswer = Answer<Client["overview"]["overview"]>
export type Bucket = OverviewAnswer["buckets"][number]
