/** Where the focus goes when the button that was pressed is gone. */

export const headingAbove = (element: Element | null): HTMLElement | null =>
  element?.closest("section")?.querySelector("h2") ?? document.querySelector("h1")

export const focus = (heading: HTMLElement | null) => {
  if (heading === null) return
  heading.tabIndex = -1
  heading.focus({ preventScroll: true })
}
