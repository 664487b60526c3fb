import { fileURLToPath } from "node:url"
import { defineConfig } from "vite"

const path = (relative: string) => fileURLToPath(new URL(relative, import.meta.url))

/** A relay that `vite` hands the API's requests on to, while somebody works on the console. */
const RELAY = process.env.OUTBOX_URL ?? "http://127.0.0.1:8686"

export default defineConfig({
  root: path("."),
  // Vite's own transform knows JSX: a plugin for React would add hot reloading and forty packages.
  esbuild: { jsx: "automatic" },
  resolve: { alias: { "clickhouse-outbox/operator-api": path("../src/OperatorServer/Api.ts") } },
  build: {
    outDir: path("../dist/console"),
    emptyOutDir: true,
    target: "es2022",
    // As data: URLs, files would be beyond what the Content-Security-Policy lets in.
    assetsInlineLimit: 0,
    // It would be put in front of everything as inline script.
    modulePreload: { polyfill: false },
    // The editor is loaded with the first failure that is opened, all else at once.
    chunkSizeWarningLimit: 900,
    // Those whose work is in the files want to be named beside them.
    license: { fileName: "licenses.txt" },
    rollupOptions: {
      onwarn: (warning, warn) => {
        // "use client", which is about servers that render.
        if (warning.code !== "MODULE_LEVEL_DIRECTIVE") warn(warning)
      }
    }
  },
  server: {
    host: "127.0.0.1",
    // The relay answers what comes from its own pages.
    proxy: { "/api": { target: RELAY, changeOrigin: true, headers: { origin: new URL(RELAY).origin } } }
  }
})
