import { type ReactNode, useEffect, useId, useLayoutEffect, useRef } from "react"
import { focus, headingAbove } from "./focus.ts"

interface Props {
  readonly title: string
  readonly children: ReactNode
  /** Its action is under way, after which the button that opened it may be gone. */
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
  // A layout effect, because the browser gives the focus back only while the dialog is still in the page.
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
