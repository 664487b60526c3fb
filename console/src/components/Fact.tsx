import type { ReactNode } from "react"

interface Props {
  readonly name: string
  readonly children: ReactNode
}

/** A line of `<dl className="facts">`. */
export const Fact = ({ children, name }: Props) => (
  <div>
    <dt>{name}</dt>
    <dd>{children}</dd>
  </div>
)
