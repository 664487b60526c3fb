import { type ReactNode, useEffect, useRef } from "react"

interface Props {
  readonly title: string
  /** Beside the title. */
  readonly aside?: ReactNode
  readonly children: ReactNode
}

let isFirst = true

/** A view under its title, which the tab and a screen reader announce. */
export const Page = ({ aside, children, title }: Props) => {
  const heading = useRef<HTMLHeadingElement>(null)
  useEffect(() => {
    document.title = `${title} · clickhouse-outbox`
  }, [title])
  // After a link was followed, what is new begins here. A page that was just loaded begins at its top.
  useEffect(() => {
    if (!isFirst) heading.current?.focus()
    isFirst = false
  }, [])
  return (
    <>
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
