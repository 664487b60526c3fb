/** Apart from the configuration, which reads files: the operator API's contract has sizes, and is for browsers too. */
import * as Schema from "effect/Schema"

/**
 * A number of bytes.
 *
 * @since 0.1.0
 * @category models
 */
export const Bytes = Schema.NonNegativeInt.pipe(Schema.brand("Bytes"))
export type Bytes = typeof Bytes.Type
