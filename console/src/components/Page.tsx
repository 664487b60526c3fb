import { type ReactNode, useEffect, useRef } from "react"
import { Link } from "wouter"
import { asLeft } from "../api/search.ts"

interface Props {
  readonly title: string
  /** The list that it belongs to: address and name. */
  readonly back?: readonly [href: string, name: string]
  /** Beside the title. */
  readonly aside?: ReactNode
  readonly children: ReactNode
}

let isFirst = true

/** A view under its title, which the tab and a screen reader announce. */
export const Page = ({ aside, back, children, title }: Props) => {
  const heading = useRef<HTMLHeadingElement>(null)
  useEffect(() => {
    document.title = `${title} · clickhouse-outbox`
  }, [title])
  // After a link the focus goes to the new view's title. A page that was just loaded keeps it at the top.
  useEffect(() => {
    if (!isFirst) heading.current?.focus()
    isFirst = false
  }, [])
  return (
    <>
      {back !== undefined && (
        <p className="back">
          <Link href={asLeft(back[0])}>← {back[1]}</Link>
        </p>
      )}
      <div className="title">
        <h1 ref={heading} tabIndex={-1}>
          {title}
        </h1>
        {aside}
      </div>
      {children}
    </>
  )
}
