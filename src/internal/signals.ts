/**
 * The first SIGINT, SIGTERM or SIGHUP, heard from when this file is loaded. A command's modules take a second or more
 * after it, and a signal in that time counts like a later one. The next signal does what the system makes of it.
 */
const SIGNALS = ["SIGINT", "SIGTERM", "SIGHUP"] as const

export const signalled: Promise<void> = new Promise((resolve) => {
  const onSignal = () => {
    for (const signal of SIGNALS) process.off(signal, onSignal)
    resolve()
  }
  for (const signal of SIGNALS) process.on(signal, onSignal)
})
