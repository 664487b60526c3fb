/** What this section publishes, and how it is found again. */

/** The publishers' application_name. */
export const APPLICATION = "publisher"

/** The first of the versions that only these events have. */
export const FIRST = 1_000_000

export const PUBLISH = `
  SELECT outbox.publish(
    'tick',
    '{"sequence": 1, "user": {"id": "c4ca4238a0b9", "country": "DE", "plan": "pro"}, "order": {"items": 2, "total": 99.5}, "tags": ["web", "partner"]}',
    metadata_version => $1
  )`
