import type { ReactNode } from "react"

interface Props {
  readonly title: string
  readonly children?: ReactNode
}

/** An empty list: what that means, and where to go. */
export const Empty = ({ children, title }: Props) => (
  <div className="empty">
    <p className="title">{title}</p>
    {children}
  </div>
)
