/** The image, docker-compose.yml and the workflows, as far as they can be held against the rest without an engine. */
import { execFile, spawn, spawnSync } from "node:child_process"
import { once } from "node:events"
import { cpSync, existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs"
import { createServer } from "node:http"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { fileURLToPath } from "node:url"
import { promisify } from "node:util"
import { expect, it } from "@effect/vitest"
import * as ConfigProvider from "effect/ConfigProvider"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import { parse } from "yaml"
import * as Config from "../../src/Config.ts"

const ROOT = fileURLToPath(new URL("../..", import.meta.url))
const contents = (path: string) => readFileSync(join(ROOT, path), "utf8")

const Text = Schema.Union(Schema.String, Schema.Number, Schema.Boolean)
const record = <A, I>(value: Schema.Schema<A, I>) => Schema.Record({ key: Schema.String, value })
const list = Schema.optionalWith(Schema.Array(Schema.String), { default: () => [] })

const Compose = Schema.Struct({
  services: record(
    Schema.Struct({
      image: Schema.optional(Schema.String),
      read_only: Schema.optionalWith(Schema.Boolean, { default: () => false }),
      cap_drop: list,
      cap_add: list,
      security_opt: list,
      build: Schema.optional(Schema.Struct({ context: Schema.String, target: Schema.String })),
      environment: Schema.optionalWith(record(Schema.NullOr(Text)), { default: () => ({}) }),
      ports: list,
      volumes: list,
      healthcheck: Schema.optional(Schema.Struct({ test: list })),
      stop_grace_period: Schema.optional(Schema.String)
    })
  ),
  volumes: record(Schema.Null)
})

const Workflow = Schema.Struct({
  permissions: record(Schema.String),
  concurrency: Schema.Struct({ group: Schema.String }),
  jobs: record(
    Schema.Struct({
      "timeout-minutes": Schema.optional(Schema.Number),
      permissions: Schema.optionalWith(record(Schema.String), { default: () => ({}) }),
      uses: Schema.optional(Schema.String),
      env: Schema.optionalWith(record(Text), { default: () => ({}) }),
      steps: Schema.optionalWith(
        Schema.Array(Schema.Struct({ uses: Schema.optional(Schema.String), run: Schema.optional(Schema.String) })),
        { default: () => [] }
      )
    })
  )
})

const Prometheus = Schema.Struct({
  rule_files: Schema.Array(Schema.String),
  scrape_configs: Schema.Array(
    Schema.Struct({
      dns_sd_configs: Schema.Array(Schema.Struct({ names: Schema.Array(Schema.String), port: Schema.Number }))
    })
  )
})

const Named = record(Schema.Unknown)
const Collector = Schema.Struct({
  receivers: Schema.Struct({
    otlp: Schema.Struct({ protocols: record(Schema.Struct({ endpoint: Schema.String })) })
  }),
  processors: Named,
  exporters: Named,
  service: Schema.Struct({ pipelines: record(record(Schema.Array(Schema.String))) })
})

const Datasources = Schema.Struct({ datasources: Schema.Array(Schema.Struct({ url: Schema.String })) })
const Dashboards = Schema.Struct({
  providers: Schema.Array(Schema.Struct({ options: Schema.Struct({ path: Schema.String }) }))
})

const read = <A, I>(schema: Schema.Schema<A, I>, path: string): A => {
  const document: unknown = parse(contents(path), { merge: true })
  return Schema.decodeUnknownSync(schema)(document)
}

/** Instructions of the Dockerfile, each in one line. */
const instructions = contents("Dockerfile")
  .replace(/^#.*\n/gm, "")
  .replace(/\\\n/g, " ")
  .split("\n")
  .flatMap((line) => {
    const [, name, rest] = /^(\w+)\s+(.*)$/.exec(line) ?? []
    return name === undefined || rest === undefined ? [] : [{ name, rest }]
  })

const all = (name: string) => instructions.filter((instruction) => instruction.name === name).map(({ rest }) => rest)

const stages = all("FROM").flatMap((rest) => {
  const [, base = "", stage = ""] = /^(?:--platform=\S+ )?(\S+) AS (\S+)$/.exec(rest) ?? []
  return [{ base, stage }]
})

const compose = read(Compose, "docker-compose.yml")
const services = Object.entries(compose.services).map(([name, service]) => ({ name, ...service }))
const ours = services.filter(({ build }) => build !== undefined)

const assignments = (path: string) =>
  [...contents(path).matchAll(/^(#?)([A-Z_]+)=(.*)$/gm)].map(([, comment, name = "", value = ""]) => ({
    isSet: comment === "",
    name,
    value
  }))
const example = assignments("deploy/compose/.env.example")

/** `${NAME}` and what stands behind it, and environment variables without a value, which are passed on. */
const variables = [
  ...[...contents("docker-compose.yml").matchAll(/\$\{([A-Z_]+)(:?[-?])?([^}]*)\}/g)].map(
    ([, name = "", operator = "", operand = ""]) => ({ name, operator, operand })
  ),
  ...services.flatMap(({ environment }) =>
    Object.entries(environment).flatMap(([name, value]) =>
      value === null ? [{ name, operator: "", operand: "" }] : []
    )
  )
]

const sorted = (names: Iterable<string>) => [...new Set(names)].sort()

const installed = (command: string, ...args: ReadonlyArray<string>) =>
  spawnSync(command, args, { stdio: "ignore" }).status === 0

/** What a health check that is Node and a program comes to. */
const health = async (command: ReadonlyArray<string>, env: Readonly<Record<string, string>> = {}) => {
  expect(command[0]).toBe("node")
  const child = spawn(process.execPath, command.slice(1), { env, stdio: "ignore" })
  const [code]: ReadonlyArray<unknown> = await once(child, "exit")
  return code
}

/** Answers with this status at this path, and with 404 at any other. */
const answering = async <A>(path: string, status: number, use: (port: string) => Promise<A>): Promise<A> => {
  const server = createServer((request, response) => {
    response.writeHead(request.url === path ? status : 404).end()
  }).listen(0, "127.0.0.1")
  await once(server, "listening")
  const address = server.address()
  try {
    return await use(address !== null && typeof address === "object" ? String(address.port) : "")
  } finally {
    server.closeAllConnections()
    server.close()
  }
}

{
  const [exampleHealth = [], relayHealth = []] = all("HEALTHCHECK").map((rest) =>
    Schema.decodeUnknownSync(Schema.parseJson(Schema.Array(Schema.String)))(rest.slice(rest.indexOf("CMD") + 3))
  )

  it("The image is built from what it copies and nothing else: no .env, no node_modules, no data", () => {
    const copied = all("COPY")
      .filter((rest) => !rest.startsWith("--from="))
      .flatMap((rest) => rest.split(" ").slice(0, -1))
    const [first, ...rest] = contents(".dockerignore")
      .split("\n")
      .filter((line) => line !== "" && !line.startsWith("#"))
    expect(first).toBe("*")
    expect(sorted(rest)).toEqual(sorted(copied.map((path) => `!${path}`)))
    expect(copied.filter((path) => !existsSync(join(ROOT, path)))).toEqual([])
  })

  it("The image is built on one version of Node, which this package supports", () => {
    const names = stages.map(({ stage }) => stage)
    const bases = sorted(stages.map(({ base }) => base).filter((base) => !names.includes(base)))
    expect(bases).toEqual([expect.stringMatching(/^node:\d+\.\d+-\w+-slim$/)])
    expect(Number(/\d+/.exec(bases.join())?.[0])).toBeGreaterThanOrEqual(20)
  })

  it("The image runs nothing as root, by a number that Kubernetes can check", () => {
    const users = all("USER")
    expect(users.length).toBeGreaterThan(0)
    expect(users.filter((user) => !/^[1-9]\d*:[1-9]\d*$/.test(user))).toEqual([])
  })

  it("The image starts Node without a shell between, so that SIGTERM reaches it", () => {
    expect([...all("ENTRYPOINT"), ...all("CMD")].filter((rest) => !rest.startsWith("["))).toEqual([])
    expect(all("ENTRYPOINT").filter((rest) => !rest.startsWith('["node"'))).toEqual([])
  })

  it("The image is the relay, unless another stage is asked for", () => {
    expect(stages.at(-1)?.stage).toBe("relay")
    expect(all("ENTRYPOINT").at(-1)).toBe('["node", "/app/dist/main.js"]')
    expect(all("CMD").at(-1)).toBe('["relay"]')
  })

  it("The image sets only variables that the product reads", () => {
    const known = assignments(".env.example").map(({ name }) => name)
    const set = all("ENV").map((rest) => rest.replace(/=.*/, ""))
    expect(set.filter((name) => name !== "NODE_ENV" && !known.includes(name))).toEqual([])
  })

  it("The image is healthy while the relay's process answers", async () => {
    const check = (port: string) => health(relayHealth, { OUTBOX_HTTP_PORT: port })
    expect(await answering("/healthz", 200, check)).toBe(0)
    expect(await answering("/healthz", 500, check)).toBe(1)
    expect(await health(relayHealth, { OUTBOX_HTTP_PORT: "1" })).toBe(1)
  })

  it("The image is healthy while the relay is told to serve nothing, which nobody can ask", async () => {
    expect(await health(relayHealth, { OUTBOX_HTTP_PORT: "off" })).toBe(0)
  })

  it("The image of the example is healthy while the service answers", async () => {
    expect(await answering("/users", 200, (port) => health(exampleHealth, { PORT: port }))).toBe(0)
    expect(await health(exampleHealth, { PORT: "1" })).toBe(1)
  })
}

it("docker-compose.yml reads the variables of deploy/compose/.env.example, and no other", () => {
  // Compose itself reads COMPOSE_PROFILES.
  const named = [...variables.map(({ name }) => name), "COMPOSE_PROFILES"]
  expect(sorted(example.map(({ name }) => name))).toEqual(sorted(named))
})

it("docker-compose.yml needs no other setting than those that deploy/compose/.env.example sets", () => {
  const required = variables.filter(({ operator }) => operator === ":?").map(({ name }) => name)
  const set = example.filter(({ isSet, value }) => isSet && value !== "").map(({ name }) => name)
  expect(sorted(set)).toEqual(sorted(required))
  expect(sorted(required)).toContain("OUTBOX_HTTP_TOKEN")
})

it("docker-compose.yml has the defaults that deploy/compose/.env.example names", () => {
  const defaults = variables.filter(({ operator }) => operator === ":-")
  expect(defaults.length).toBeGreaterThan(0)
  for (const { name, operand } of defaults) expect(example).toContainEqual({ isSet: false, name, value: operand })
})

it("docker-compose.yml has no secret in it", () => {
  const literal = services.flatMap(({ environment, name }) =>
    Object.entries(environment).flatMap(([variable, value]) => {
      const text = String(value ?? "")
      // PGOPTIONS is a list of settings, and some of them are passwords.
      if (variable === "PGOPTIONS") {
        return /=(?!\$\{\w+:\?[^}]+\})/.test(text) ? [`${name}: ${variable}`] : []
      }
      const isSecret = /PASSWORD|TOKEN|SECRET|KEY/.test(variable) && !/^\$\{\w+:\?[^}]+\}$/.test(text)
      const isUrl = /:\/\/[^/@]*:(?!\$\{\w+:\?[^}]+\}@)[^/]*@/.test(text)
      return isSecret || isUrl ? [`${name}: ${variable}`] : []
    })
  )
  expect(literal).toEqual([])
})

it("docker-compose.yml gives our programs only variables that they read", () => {
  // That .env.example lists them all, and no other, is the promise of another test.
  const known = assignments(".env.example").map(({ name }) => name)
  const given = ours.flatMap(({ environment }) => Object.keys(environment))
  expect(given).toEqual(expect.arrayContaining(["DATABASE_URL", "CLICKHOUSE_URL", "OUTBOX_HTTP_TOKEN"]))
  expect(sorted(given).filter((name) => !name.startsWith("OTEL_") && !known.includes(name))).toEqual([])
})

it("docker-compose.yml runs images of a version that is named, and stages that the Dockerfile has", () => {
  const images = services.filter(({ build }) => build === undefined).map(({ image }) => image ?? "")
  expect(images.filter((image) => !/:v?\d+\.\d+(\.\d+)?(-\w+)?$/.test(image))).toEqual([])
  const names = stages.map(({ stage }) => stage)
  expect(ours.map(({ build }) => build?.target ?? "").filter((target) => !names.includes(target))).toEqual([])
})

it("docker-compose.yml publishes ports on loopback only", () => {
  const ports = services.flatMap((service) => service.ports)
  expect(ports.length).toBeGreaterThan(0)
  expect(ports.filter((port) => !port.startsWith("127.0.0.1:"))).toEqual([])
})

it("docker-compose.yml publishes each port once", () => {
  const defaults = variables.filter(({ name }) => name.endsWith("_PORT")).map(({ operand }) => operand)
  expect(defaults).toEqual([...new Set(defaults)])
})

it("docker-compose.yml mounts files that are there, for reading, and volumes that it declares", () => {
  const mounts = services.flatMap(({ volumes }) => volumes.map((volume) => volume.split(":")))
  const files = mounts.filter(([source = ""]) => source.startsWith("./"))
  expect(files.length).toBeGreaterThan(0)
  expect(files.filter(([source = ""]) => !existsSync(join(ROOT, source)))).toEqual([])
  expect(files.filter(([, , mode]) => mode !== "ro")).toEqual([])
  const named = mounts.filter(([source = ""]) => !source.startsWith("./")).map(([source = ""]) => source)
  expect(sorted(named)).toEqual(sorted(Object.keys(compose.volumes)))
})

it("docker-compose.yml gives no program more of the machine than it needs", () => {
  for (const { cap_add, cap_drop, name, read_only, security_opt } of services) {
    expect({ name, cap_drop, security_opt }).toEqual({
      name,
      cap_drop: ["ALL"],
      security_opt: ["no-new-privileges:true"]
    })
    const isDatabase = name === "postgres" || name === "clickhouse"
    expect({ name, cap_add: cap_add.length > 0 }).toEqual({ name, cap_add: isDatabase })
    expect({ name, read_only }).toEqual({ name, read_only: name !== "clickhouse" })
  }
})

it("docker-compose.yml lets only what migrates be the owner of the database", () => {
  const users = ours.map(({ environment, name }) => [name, /\/\/(\w+):/.exec(String(environment.DATABASE_URL))?.[1]])
  expect(Object.fromEntries(users)).toEqual({
    migrate: "outbox",
    "migrate-app": "outbox",
    relay: "relay",
    app: "app"
  })
})

it("docker-compose.yml gives the relay longer to stop than the relay gives its batches", () => {
  const { shutdownGrace } = Effect.runSync(ConfigProvider.fromMap(new Map()).load(Config.relay))
  const relays = ours.filter(({ name }) => !name.startsWith("migrate"))
  expect(relays.map(({ name }) => name)).toEqual(["relay", "app"])
  for (const { stop_grace_period: period = "0s" } of relays) {
    expect(period).toMatch(/^\d+s$/)
    expect(Number.parseInt(period, 10)).toBeGreaterThan(Duration.toSeconds(shutdownGrace))
  }
})

it("docker-compose.yml calls the relay healthy once it is ready", async () => {
  const [, ...command] = compose.services.relay?.healthcheck?.test ?? []
  const check = (port: string) => health(command.map((argument) => argument.replace(":8686/", `:${port}/`)))
  expect(await answering("/readyz", 200, check)).toBe(0)
  expect(await answering("/readyz", 503, check)).toBe(1)
  expect(await check("1")).toBe(1)
})

it("docker-compose.yml is accepted by docker compose", (context) => {
  if (!installed("docker", "compose", "version")) return context.skip("docker compose is not installed")
  const args = ["--env-file", "deploy/compose/.env.example", "--profile", "observability", "config", "--quiet"]
  const { stderr, status } = spawnSync("docker", ["compose", ...args], { cwd: ROOT, encoding: "utf8" })
  expect({ stderr, status }).toEqual({ stderr: "", status: 0 })
})

{
  const mountsOf = (service: string) =>
    (compose.services[service]?.volumes ?? []).map((volume) => {
      const [source = "", target = ""] = volume.split(":")
      return { source, target }
    })
  const collector = read(Collector, "deploy/compose/collector.yml")
  const prometheus = read(Prometheus, "deploy/compose/prometheus.yml")

  it("deploy/compose names hosts that are services", () => {
    const texts = [
      ...services.flatMap(({ environment }) => Object.values(environment).map((value) => String(value ?? ""))),
      ...example.map(({ value }) => value),
      ...read(Datasources, "deploy/compose/grafana/datasources/datasources.yml").datasources.map(({ url }) => url)
    ]
    const hosts = texts.flatMap((text) => /:\/\/(?:.*@)?([\w.-]+)/.exec(text)?.[1] ?? [])
    const scraped = prometheus.scrape_configs.flatMap((job) => job.dns_sd_configs.flatMap(({ names }) => names))
    expect(sorted([...hosts, ...scraped])).toEqual(
      sorted(["clickhouse", "collector", "jaeger", "postgres", "prometheus", "relay"])
    )
    expect([...hosts, ...scraped].filter((host) => compose.services[host] === undefined)).toEqual([])
  })

  it("deploy/compose scrapes the port that the image exposes", () => {
    const ports = prometheus.scrape_configs.flatMap((job) => job.dns_sd_configs.map(({ port }) => String(port)))
    expect(ports).toEqual(all("EXPOSE").slice(-1))
  })

  it("deploy/compose sends what the relay sends to where the collector listens", () => {
    const endpoint = example.find(({ name }) => name === "OTEL_EXPORTER_OTLP_ENDPOINT")?.value ?? ""
    const listening = Object.values(collector.receivers.otlp.protocols).map((protocol) => protocol.endpoint)
    expect(listening).toContain(`0.0.0.0:${new URL(endpoint).port}`)
  })

  it("deploy/compose has every part that the collector's pipelines are made of, and takes every kind of telemetry", () => {
    const { exporters, processors, receivers, service } = collector
    const parts: Record<string, ReadonlyArray<string>> = {
      receivers: Object.keys(receivers),
      processors: Object.keys(processors),
      exporters: Object.keys(exporters)
    }
    expect(sorted(Object.keys(service.pipelines))).toEqual(["logs", "metrics", "traces"])
    for (const pipeline of Object.values(service.pipelines)) {
      for (const [kind, names] of Object.entries(pipeline)) {
        expect(names.filter((name) => !parts[kind]?.includes(name))).toEqual([])
      }
    }
  })

  it("deploy/compose gives Prometheus its rules and Grafana its dashboard where they look for them", () => {
    const rules = mountsOf("prometheus").filter(({ source }) => source.startsWith("./deploy/prometheus/"))
    expect(rules.map(({ target }) => target)).toEqual(prometheus.rule_files.map((file) => `/etc/prometheus/${file}`))
    const folders = read(Dashboards, "deploy/compose/grafana/dashboards/dashboards.yml").providers
    const dashboards = mountsOf("grafana").filter(({ source }) => source.startsWith("./deploy/grafana/"))
    expect(dashboards.map(({ target }) => target.replace(/\/[^/]+$/, ""))).toEqual(
      folders.map(({ options }) => options.path)
    )
    expect(dashboards.map(({ target }) => target)).toContain(
      compose.services.grafana?.environment.GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH
    )
  })

  it("deploy/compose is accepted by Prometheus", async (context) => {
    if (!installed("promtool", "--version")) return context.skip("promtool is not installed")
    const folder = mkdtempSync(join(tmpdir(), "outbox-prometheus-"))
    try {
      for (const { source, target } of mountsOf("prometheus")) {
        if (source.startsWith("./")) cpSync(join(ROOT, source), join(folder, target.replace("/etc/prometheus/", "")))
      }
      const { stdout } = await promisify(execFile)("promtool", ["check", "config", join(folder, "prometheus.yml")])
      expect(stdout).toContain("1 rule files found")
    } finally {
      rmSync(folder, { recursive: true })
    }
  })
}

{
  const Lock = Schema.parseJson(
    Schema.Struct({ packages: record(Schema.Struct({ integrity: Schema.optional(Schema.String) })) })
  )
  const { packages } = Schema.decodeUnknownSync(Lock)(contents("package-lock.json"))

  it("What is installed is what was locked, by its checksum: all but a library for tests on other machines than CI's", () => {
    const unchecked = Object.entries(packages).filter(([path, { integrity }]) => path !== "" && integrity === undefined)
    expect(sorted(unchecked.map(([path]) => path))).toEqual([
      "node_modules/@chdb/lib-darwin-arm64",
      "node_modules/@chdb/lib-darwin-x64",
      "node_modules/@chdb/lib-linux-arm64-gnu"
    ])
  })

  it("What is installed is kept up to date by Dependabot: packages, actions and images", () => {
    const Dependabot = Schema.Struct({ updates: Schema.Array(Schema.Struct({ "package-ecosystem": Schema.String })) })
    const { updates } = read(Dependabot, ".github/dependabot.yml")
    expect(sorted(updates.map((update) => update["package-ecosystem"]))).toEqual([
      "docker",
      "docker-compose",
      "github-actions",
      "npm"
    ])
  })
}

{
  const workflows = readdirSync(join(ROOT, ".github/workflows")).map((file) => ({
    file,
    text: contents(`.github/workflows/${file}`),
    ...read(Workflow, `.github/workflows/${file}`)
  }))
  const jobs = workflows.flatMap(({ file, jobs }) =>
    Object.entries(jobs).map(([name, job]) => ({ name: `${file}: ${name}`, ...job }))
  )
  const commands = jobs.flatMap(({ steps }) => steps.flatMap(({ run }) => run ?? []))

  it("The workflows may only read, unless a job says otherwise", () => {
    expect(workflows.map(({ file }) => file)).toEqual(["ci.yml", "release.yml"])
    for (const { permissions } of workflows) expect(permissions).toEqual({ contents: "read" })
  })

  it("The workflows use actions by their commit, which a tag cannot move, and name its version", () => {
    for (const { text } of workflows) {
      const used = [...text.matchAll(/uses: (.+)$/gm)].map(([, action = ""]) => action)
      expect(used.length).toBeGreaterThan(0)
      expect(
        used.filter(
          (action) => !/^[\w-]+\/[\w-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+$/.test(action) && !action.startsWith("./")
        )
      ).toEqual([])
    }
  })

  it("The workflows run no script of a package where they may sign or write", () => {
    const privileged = jobs.filter(({ permissions }) => Object.values(permissions).includes("write"))
    expect(privileged.map(({ name }) => name)).toEqual(["release.yml: npm", "release.yml: image", "release.yml: notes"])
    const run = privileged.flatMap(({ steps }) => steps.flatMap(({ run }) => run?.split("\n") ?? []))
    expect(run.filter((line) => /npm (?:ci|publish)\b/.test(line) && !line.includes("--ignore-scripts"))).toEqual([])
    const unset = "env -u ACTIONS_ID_TOKEN_REQUEST_URL -u ACTIONS_ID_TOKEN_REQUEST_TOKEN "
    expect(run.filter((line) => /npm (?:ci|run)\b/.test(line) && !line.startsWith(unset))).toEqual([])
  })

  it("The workflows say with a release what is in it and where it was built", () => {
    const release = contents(".github/workflows/release.yml")
    expect(release).toMatch(/npm sbom .*--sbom-format=cyclonedx > (\S+)\n.*gh release create \S+ \1/s)
    expect(release).toContain("sbom: true")
    expect(release).toContain("provenance: mode=max")
    expect(release).toContain("--provenance")
  })

  it("The workflows end each job after a time", () => {
    const endless = jobs.filter((job) => job.uses === undefined && job["timeout-minutes"] === undefined)
    expect(endless.map(({ name }) => name)).toEqual([])
  })

  it("The workflows run scripts that package.json has, and files that are there", () => {
    const Package = Schema.parseJson(Schema.Struct({ scripts: record(Schema.String) }))
    const { scripts } = Schema.decodeUnknownSync(Package)(contents("package.json"))
    const run = commands.flatMap((command) => [...command.matchAll(/npm run ([\w:]+)/g)].map(([, name = ""]) => name))
    expect(sorted(run)).toEqual(expect.arrayContaining(["check", "bench:isolation"]))
    expect(run.filter((name) => scripts[name] === undefined)).toEqual([])
    const files = commands.flatMap((command) => command.match(/(?<![\w/])(?:\.ci|deploy)\/[\w./-]+/g) ?? [])
    expect(files.length).toBeGreaterThan(0)
    expect(files.filter((file) => !existsSync(join(ROOT, file)))).toEqual([])
    for (const { uses } of jobs) if (uses !== undefined) expect(existsSync(join(ROOT, uses))).toBe(true)
  })

  it("The workflows choose the images of databases by variables that the tests read", () => {
    const chosen = jobs.flatMap(({ env }) => Object.keys(env))
    expect(sorted(chosen)).toEqual(["TEST_CLICKHOUSE_IMAGE", "TEST_POSTGRES_IMAGE"])
    const source = contents("src/embedded/Databases.ts")
    expect(chosen.filter((name) => !source.includes(`"${name}"`))).toEqual([])
  })
}
