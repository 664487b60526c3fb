/** What this section publishes, and how it is known again. */

/** What Postgres knows the publishers by. */
export const APPLICATION = "publisher"

/** Versions that no other event has begin here. */
export const FIRST = 1_000_000

export const PUBLISH = `
  SELECT outbox.publish(
    'tick',
    '{"sequence": 1, "user": {"id": "c4ca4238a0b9", "country": "DE", "plan": "pro"}, "order": {"items": 2, "total": 99.5}, "tags": ["web", "partner"]}',
    metadata_version => $1
  )`
