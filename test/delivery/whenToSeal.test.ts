/** What the sealer knows and what follows from it: plain values, no clock and no database. */
import { expect, it } from "@effect/vitest"
import * as Duration from "effect/Duration"
import * as Option from "effect/Option"
import { Sealed } from "../../src/OutboxStore.ts"
import {
  Found,
  isStuck,
  type Look,
  lookAfter,
  mayHaveToSeal,
  type Reading,
  waitAfter
} from "../../src/Relay/sealing.ts"

const BATCH_EVENTS = 1_000

/** After so many milliseconds, with so many ids given, batches sealed and transactions ended. */
const reading = (at: number, { batches = 0, events = 0, transactions = 0 } = {}): Reading => ({
  at,
  position: { events, batches, transactions: String(transactions) }
})

const found: Record<Found["_tag"], Found> = {
  Idle: Found.Idle(),
  Open: Found.Open(),
  Waiting: Found.Waiting({ dueAt: 600 }),
  Busy: Found.Busy({ since: 0 })
}

const look = (found: Found, at = 0): Look => ({ ...reading(at), found })

const looks = (last: Found, now: Reading) => mayHaveToSeal(look(last), now, BATCH_EVENTS)

{
  const cases: ReadonlyArray<readonly [when: string, found: Found, now: Reading, looks: boolean]> = [
    ["never, at rest, where nothing moves", found.Idle, reading(1e6), false],
    ["at rest, once an event has taken an id", found.Idle, reading(1, { events: 1 }), true],
    ["each time, while transactions are open, which may commit without a sign", found.Open, reading(1), true],
    ["each time, while another session seals", found.Busy, reading(1), true],
    ["not yet, where events may wait for others", found.Waiting, reading(599, { events: 999 }), false],
    ["once those are due", found.Waiting, reading(600), true],
    ["before those are due, once a full batch may be there", found.Waiting, reading(1, { events: 1_000 }), true]
  ]
  for (const [when, last, now, expected] of cases) {
    it(when, () => {
      expect(looks(last, now)).toBe(expected)
    })
  }

  it("The sealer looks at the outbox once a second where transactions end, whatever else it knows: a sequence moves before its transaction commits", () => {
    for (const last of [found.Idle, Found.Waiting({ dueAt: 1e6 })]) {
      expect(looks(last, reading(999, { transactions: 1 }))).toBe(false)
      expect(looks(last, reading(1_000, { transactions: 1 }))).toBe(true)
    }
  })
}

{
  const nothing = (transactionsInProgress: boolean) => Sealed.Nothing({ transactionsInProgress })
  const foundAfter = (last: Option.Option<Look>, now: Reading, ended: Parameters<typeof lookAfter>[2]) =>
    lookAfter(last, now, ended).found

  it("After an attempt to seal the sealer knows, whether there is nothing to come, or a transaction that may still commit", () => {
    expect(foundAfter(Option.none(), reading(5), nothing(false))).toEqual(Found.Idle())
    expect(foundAfter(Option.none(), reading(5), nothing(true))).toEqual(Found.Open())
  })

  it("After an attempt to seal the sealer knows when the oldest event that waits for others is due, by its own clock", () => {
    const waiting = Sealed.Waiting({ dueIn: Duration.millis(655) })
    expect(foundAfter(Option.none(), reading(1_000), waiting)).toEqual(Found.Waiting({ dueAt: 1_655 }))
  })

  it("After an attempt to seal the sealer knows, how far things had moved before, so that what is published meanwhile counts", () => {
    const now = reading(7, { events: 3, batches: 2, transactions: 5 })
    expect(lookAfter(Option.none(), now, nothing(false))).toEqual({ ...now, found: Found.Idle() })
  })

  {
    const busy = (last: Option.Option<Look>, now: Reading) => lookAfter(last, now, Sealed.Busy())

    it("After an attempt to seal the sealer knows, since when another session has been sealing from the first of several looks on", () => {
      const first = busy(Option.some(look(Found.Idle(), 10)), reading(100))
      expect(first.found).toEqual(Found.Busy({ since: 100 }))
      expect(busy(Option.some(first), reading(200)).found).toEqual(Found.Busy({ since: 100 }))
    })

    it("After an attempt to seal the sealer knows, since when another session has been sealing from now on, if a batch came of it: that is a relay at work", () => {
      const last = look(Found.Busy({ since: 10 }), 20)
      expect(busy(Option.some(last), reading(200, { batches: 1 })).found).toEqual(Found.Busy({ since: 200 }))
    })

    it("After an attempt to seal the sealer knows, since when another session has been sealing and warns once a minute that it is stuck, not each time", () => {
      let last = Option.none<Look>()
      const warnings: Array<number> = []
      for (let at = 0; at <= 180_000; at += 100) {
        const next = busy(last, reading(at))
        if (isStuck(next)) warnings.push(at)
        last = Option.some(next)
      }
      expect(warnings).toEqual([60_000, 120_000, 180_000])
    })
  }
}

{
  const LINGER = Duration.seconds(1)
  const wait = (last: Found, now = 0, linger = LINGER) => waitAfter(look(last), now, linger)

  it("Until it reads the sequences again the sealer waits, a quarter of a second at rest, and a tenth while there is something", () => {
    expect(wait(found.Idle)).toBe(250)
    expect([wait(found.Open), wait(found.Busy), wait(found.Waiting)]).toEqual([100, 100, 100])
  })

  it("Until it reads the sequences again the sealer waits, until events are due, if that is sooner", () => {
    expect(wait(found.Waiting, 545)).toBe(55)
  })

  it("Until it reads the sequences again the sealer waits, a share of a shorter linger, so that its events are not late", () => {
    const linger = Duration.millis(200)
    expect([wait(found.Idle, 0, linger), wait(found.Open, 0, linger)]).toEqual([50, 40])
  })

  it("Until it reads the sequences again the sealer waits, for 10 ms at least, so that it never spins", () => {
    expect(wait(found.Waiting, 700)).toBe(10)
    expect(wait(found.Idle, 0, Duration.millis(1))).toBe(10)
  })
}
