/**
 * Whether all of it runs, as in `npm run test:all` and `.ci/run`. `npm test` takes a sample of what is long by nature:
 * fewer rounds of the same, and no installation into an empty project.
 */
export const isWhole = process.env.TEST_WHOLE !== undefined
