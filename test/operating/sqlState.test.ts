/** What Postgres' error codes mean: one answer for the relay, the command line, the operator API and publishers. */
import { SqlError } from "@effect/sql/SqlError"
import { expect, it } from "@effect/vitest"
import * as Option from "effect/Option"
import * as SqlState from "../../src/internal/sqlState.ts"

/** As a copy of pg makes it that is not this package's: no instance of its `DatabaseError`. */
const sqlError = (code: string, fields: object = {}) =>
  new SqlError({ cause: Object.assign(new Error("on purpose"), { code, ...fields }), message: "Failed" })

const meaningOf = (error: unknown) => ({
  lost: SqlState.isConnectionLost(error),
  unavailable: SqlState.isUnavailable(error),
  notPermitted: SqlState.isNotPermitted(error),
  noOutbox: SqlState.isNoOutbox(error)
})

const nothing = { lost: false, unavailable: false, notPermitted: false, noOutbox: false }
const lost = { ...nothing, lost: true, unavailable: true }
const contended = { ...nothing, unavailable: true }

for (const code of ["08006", "08001", "25P03", "25P04", "57P01", "57P03", "57P05", "EPIPE", "ECONNREFUSED"]) {
  it(`An error of Postgres with code ${code} says that the connection is gone, and may pass by itself`, () => {
    expect(meaningOf(sqlError(code))).toEqual(lost)
  })
}

for (const code of ["40001", "40P01", "53100", "53300", "55P03", "57014"]) {
  it(`An error of Postgres with code ${code} may pass by itself, and left nothing in doubt`, () => {
    expect(meaningOf(sqlError(code))).toEqual(contended)
  })
}

for (const code of ["22P02", "23505", "23514", "25006", "42601", "42703", "54000", "55000", "P0001", "XX000"]) {
  it(`An error of Postgres with code ${code} does not pass by itself`, () => {
    expect(meaningOf(sqlError(code))).toEqual(nothing)
  })
}

it("An error of Postgres tells a privilege that is lacking from an outbox that is not there", () => {
  expect(meaningOf(sqlError("42501"))).toEqual({ ...nothing, notPermitted: true })
  expect(meaningOf(sqlError("42P01"))).toEqual({ ...nothing, noOutbox: true })
  expect(meaningOf(sqlError("3F000"))).toEqual({ ...nothing, noOutbox: true })
})

it("An error of Postgres is known by its code however deep it is the cause of another", () => {
  expect(meaningOf(new SqlError({ cause: sqlError("57014"), message: "Failed" }))).toEqual(contended)
  expect(SqlState.isLockTimeout(new SqlError({ cause: sqlError("55P03") }))).toBe(true)
  expect(SqlState.isLockTimeout(sqlError("57014"))).toBe(false)
})

it("An error of Postgres says which rule a value breaks, and where, if a value is what is wrong", () => {
  const where = "COPY new_event, line 3"
  expect(SqlState.invalidData(sqlError("23514", { constraint: "a_rule", where }))).toEqual(
    Option.some({ message: "on purpose", constraint: "a_rule", where })
  )
  for (const code of ["22003", "54000", "P0001"]) {
    expect(Option.isSome(SqlState.invalidData(sqlError(code, { constraint: undefined })))).toBe(true)
  }
  expect(SqlState.invalidData(sqlError("42501"))).toEqual(Option.none())
})
