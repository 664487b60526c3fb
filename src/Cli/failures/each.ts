/** The same for several failures: what fails for one does not keep the others from it. */
import type { SqlError } from "@effect/sql/SqlError"
import * as Arr from "effect/Array"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import type { FailureClosed, FailureId, FailureNotFound, FailureNotReopened } from "../../BatchFailures.ts"
import { reasonOf } from "../../internal/text.ts"

type Refused = FailureNotFound | FailureClosed | FailureNotReopened | SqlError

export class SomeFailed extends Schema.TaggedError<SomeFailed>()("SomeFailed", {
  reasons: Schema.Array(Schema.String)
}) {
  override get message(): string {
    return this.reasons.join("\n")
  }
}

/** Tries each, shows what succeeded, and then fails if one did. */
export const each = <A, E, R>(
  failureIds: Arr.NonEmptyReadonlyArray<FailureId>,
  change: (failureId: FailureId) => Effect.Effect<A, Refused>,
  show: (changed: ReadonlyArray<A>) => Effect.Effect<void, E, R>
) =>
  Effect.gen(function* () {
    const [errors, changed] = yield* Effect.partition(Arr.dedupe(failureIds), (failureId) =>
      Effect.mapError(change(failureId), (error) => ({ failureId, error }))
    )
    if (Arr.isNonEmptyArray(changed)) yield* show(changed)
    if (!Arr.isNonEmptyArray(errors)) return
    if (failureIds.length === 1) return yield* Effect.fail(Arr.headNonEmpty(errors).error)
    return yield* new SomeFailed({
      reasons: errors.map(({ error, failureId }) =>
        error._tag === "SqlError" ? `Failure ${failureId}: ${reasonOf(error)}` : error.message
      )
    })
  })
