import * as Pg from "pg"; import {readFileSync} from "node:fs"
const c = new Pg.default.Client(process.env.DATABASE_URL); await c.connect()
for (const f of process.argv.slice(2)) { const r = await c.query(f.endsWith(".sql") ? readFileSync(f,"utf8") : f); for (const x of [r].flat()) console.log(x.command, x.rowCount, x.rows.slice(0,60).map(r=>Object.values(r).join(" | ")).join("\n")) }
await c.end()
