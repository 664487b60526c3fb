/** Who uses the operator API, and what they may do. Part of its contract, so nothing of the server is imported here. */
import * as Schema from "effect/Schema"

/**
 * What somebody may do: look at everything, or also change what operators change.
 *
 * @since 0.1.0
 * @category models
 */
export const Role = Schema.Literal("reader", "operator")
export type Role = typeof Role.Type

/**
 * The name that a configuration or a proxy gives somebody, and that the audit trail has. No white space and no comma:
 * they separate names, and a header that was sent twice arrives with a comma between.
 *
 * @since 0.1.0
 * @category models
 */
export const CallerName = Schema.String.pipe(
  Schema.pattern(/^[\x21-\x2b\x2d-\x7e]{1,255}$/, {
    message: () => "Expected 1 to 255 printable ASCII characters without spaces and commas"
  }),
  Schema.brand("Actor")
)
export type CallerName = typeof CallerName.Type
