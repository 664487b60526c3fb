import { type ReactNode, useEffect, useId, useLayoutEffect, useRef } from "react"
import { focus, headingAbove } from "./focus.ts"

interface Props {
  readonly title: string
  readonly children: ReactNode
  /** What was asked for is being done: the button that opened it may have nothing left to do, and go. */
  readonly isWorking?: boolean
  readonly onClose: () => void
}

/**
 * The browser's own modal dialog: it keeps the focus, gives it back, and closes on Escape. Once its work is done the
 * focus goes to the heading above the button that opened it, so that it isn't lost with the button.
 */
export const Dialog = ({ children, isWorking = false, onClose, title }: Props) => {
  const dialog = useRef<HTMLDialogElement>(null)
  const wasWorking = useRef(isWorking)
  const heading = useId()
  useEffect(() => {
    wasWorking.current = isWorking
  }, [isWorking])
  // Not after it has left the page: the browser gives the focus back only from a dialog that is there.
  useLayoutEffect(() => {
    const element = dialog.current
    const above = headingAbove(document.activeElement)
    element?.showModal()
    return () => {
      element?.close()
      if (wasWorking.current) focus(above)
    }
  }, [])
  return (
    <dialog ref={dialog} aria-labelledby={heading} onCancel={onClose}>
      <h2 id={heading}>{title}</h2>
      {children}
    </dialog>
  )
}
