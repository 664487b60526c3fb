import { useMutation } from "@tanstack/react-query"
import { type FormEvent, useState } from "react"
import { request } from "../api/client.ts"
import { queryClient } from "../api/queryClient.ts"
import * as Session from "../api/session.ts"
import { Failed } from "../components/Failed.tsx"

export const Login = () => {
  const [given, setGiven] = useState("")
  const signIn = useMutation({
    mutationFn: (token: string) => {
      Session.token.set(token)
      return request((client) => client.relay.state({}))
    },
    onSuccess: async (_, token) => {
      queryClient.clear()
      Session.signIn(token)
    },
    onError: () => Session.token.set(null)
  })
  const submit = (event: FormEvent) => {
    event.preventDefault()
    signIn.mutate(given.trim())
  }
  const wasRefused = signIn.error?._tag === "Problem" && signIn.error.status === 401
  return (
    <main className="login">
      <form onSubmit={submit}>
        <h1>clickhouse-outbox</h1>
        <p>This relay asks for a token before it shows events.</p>
        <div className="field">
          <label htmlFor="token">Token</label>
          <input
            id="token"
            type="password"
            autoComplete="current-password"
            required
            value={given}
            aria-invalid={wasRefused}
            aria-describedby="token-hint"
            onChange={(event) => setGiven(event.target.value)}
          />
          <p className="hint" id="token-hint">
            Your own, or what <code>OUTBOX_HTTP_TOKEN</code> is on the server. This tab keeps it until it is closed.
          </p>
        </div>
        {wasRefused ? (
          <p className="failed" role="alert">
            <strong>This is not the token.</strong> Look for characters lost in copying.
          </p>
        ) : (
          signIn.error !== null && <Failed error={signIn.error} />
        )}
        <button type="submit" className="primary" disabled={signIn.isPending}>
          {signIn.isPending ? "Signing in…" : "Sign in"}
        </button>
      </form>
    </main>
  )
}
