import { QueryClientProvider } from "@tanstack/react-query"
import { StrictMode } from "react"
import { createRoot } from "react-dom/client"
import { App } from "./App.tsx"
import { queryClient } from "./api/queryClient.ts"
import "./styles/index.css"

const root = document.getElementById("console")
if (root === null) throw new Error("index.html has no element of the id console")

createRoot(root).render(
  <StrictMode>
    <QueryClientProvider client={queryClient}>
      <App />
    </QueryClientProvider>
  </StrictMode>
)
