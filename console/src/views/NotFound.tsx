import { Link } from "wouter"
import { Empty } from "../components/Empty.tsx"
import { Page } from "../components/Page.tsx"

export const NotFound = () => (
  <Page title="Nothing is here">
    <Empty title="The console has no view at this address.">
      <p>
        <Link href="/">To the overview</Link>
      </p>
    </Empty>
  </Page>
)
