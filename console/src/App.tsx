import { useSyncExternalStore } from "react"
import { Route, Switch } from "wouter"
import * as Session from "./api/session.ts"
import { Notices } from "./components/Notices.tsx"
import { Header } from "./Header.tsx"
import { Audit } from "./views/Audit.tsx"
import { Batch } from "./views/Batch.tsx"
import { Batches } from "./views/Batches.tsx"
import { Event } from "./views/Event.tsx"
import { Events } from "./views/Events.tsx"
import { Failure } from "./views/Failure.tsx"
import { Failures } from "./views/Failures.tsx"
import { Incidents } from "./views/Incidents.tsx"
import { Login } from "./views/Login.tsx"
import { NotFound } from "./views/NotFound.tsx"
import { Overview } from "./views/Overview.tsx"

export const App = () => {
  const isLocked = useSyncExternalStore(Session.locked.subscribe, Session.locked.get)
  if (isLocked) return <Login />
  return (
    <>
      <a className="skip" href="#main">
        Skip to the content
      </a>
      <Header />
      <main id="main" tabIndex={-1}>
        <Switch>
          <Route path="/" component={Overview} />
          <Route path="/failures" component={Failures} />
          <Route path="/failures/:id">{({ id }) => <Failure key={id} id={id} />}</Route>
          <Route path="/batches" component={Batches} />
          <Route path="/batches/:id">{({ id }) => <Batch key={id} id={id} />}</Route>
          <Route path="/incidents" component={Incidents} />
          <Route path="/events" component={Events} />
          <Route path="/events/:id">{({ id }) => <Event key={id} id={id} />}</Route>
          <Route path="/audit" component={Audit} />
          <Route component={NotFound} />
        </Switch>
      </main>
      <Notices />
    </>
  )
}
