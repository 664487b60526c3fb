import { Link } from "wouter"
import { type Finding, headlineOf } from "./verdict.ts"

interface Props {
  readonly findings: readonly [Finding, ...ReadonlyArray<Finding>]
}

const SIGNS = { good: "✓", warn: "!", bad: "✕", unknown: "…" } as const

const One = ({ finding }: { readonly finding: Finding }) => (
  <div className={`verdict-line ${finding.tone}`}>
    <span className="sign" aria-hidden="true">
      {SIGNS[finding.tone]}
    </span>
    <div>
      <p className="sentence">{finding.sentence}</p>
      {finding.explanation !== undefined && <p className="explanation">{finding.explanation}</p>}
    </div>
    {finding.link !== undefined && (
      <Link href={finding.link.href} className="button">
        {finding.link.text}
      </Link>
    )}
  </div>
)

/** The answer to “is all well?”. */
export const Verdict = ({ findings }: Props) => (
  <section className="verdict-box" aria-label="Verdict">
    {findings.map((finding) => (
      <One key={finding.sentence} finding={finding} />
    ))}
    <p className="hidden" role="status">
      {findings[0].tone === "good" ? "All is well" : `Needs attention: ${headlineOf(findings[0])}`}
    </p>
  </section>
)
