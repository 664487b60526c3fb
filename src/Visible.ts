/** Text that was written by anybody, for a terminal or a log: all of it is seen, and none of it acts. */

/** What a terminal would act on, or what would put other text in another order. */
const UNPRINTABLE = /[\p{Cc}\p{Bidi_Control}\p{Zl}\p{Zp}]/gu

/** As JSON escapes them, so that JSON keeps its meaning. */
const escape = (character: string): string => `\\u${character.charCodeAt(0).toString(16).padStart(4, "0")}`

/** The text with all that is not printed escaped, line ends included. */
export const visible = (text: string): string => text.replaceAll(UNPRINTABLE, escape)

/** The same, line by line. */
export const visibleLines = (text: string): string => text.split(/\r?\n/).map(visible).join("\n")
