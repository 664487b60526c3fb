/** Two replicas and a Keeper, in Docker: a cluster called `events` of one shard. */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import { GenericContainer, getContainerRuntimeClient, Network, type StartedTestContainer, Wait } from "testcontainers"

const IMAGE = process.env.TEST_CLICKHOUSE_IMAGE ?? "clickhouse/clickhouse-server:26.7"

const NAMES = ["r1", "r2"]

const KEEPER = `
<clickhouse>
  <logger><level>warning</level><console>true</console></logger>
  <listen_host>0.0.0.0</listen_host>
  <keeper_server>
    <tcp_port>9181</tcp_port>
    <server_id>1</server_id>
    <log_storage_path>/tmp/keeper/log</log_storage_path>
    <snapshot_storage_path>/tmp/keeper/snapshots</snapshot_storage_path>
    <raft_configuration><server><id>1</id><hostname>keeper</hostname><port>9234</port></server></raft_configuration>
  </keeper_server>
</clickhouse>
`

const replicaXml = (name: string) => `
<clickhouse>
  <zookeeper><node><host>keeper</host><port>9181</port></node></zookeeper>
  <macros><shard>1</shard><replica>${name}</replica></macros>
  <interserver_http_host>${name}</interserver_http_host>
  <distributed_ddl><path>/clickhouse/task_queue/ddl</path></distributed_ddl>
  <remote_servers replace="true">
    <events>
      <shard>
        <internal_replication>true</internal_replication>
        ${NAMES.map((host) => `<replica><host>${host}</host><port>9000</port></replica>`).join("\n        ")}
      </shard>
    </events>
  </remote_servers>
</clickhouse>
`

/** Whether there is an engine that answers. One that is stuck counts as none. */
export const dockerAnswers: Effect.Effect<boolean> = Effect.tryPromise(() => getContainerRuntimeClient()).pipe(
  Effect.timeoutOption(Duration.seconds(5)),
  Effect.map(Option.isSome),
  Effect.orElseSucceed(() => false)
)

export interface Replica {
  /** Another one after a restart. */
  readonly url: Effect.Effect<string>
  /** SIGKILL, as a crash would end it. */
  readonly kill: Effect.Effect<void>
  readonly restart: Effect.Effect<void>
}

const started = (container: GenericContainer) =>
  Effect.acquireRelease(
    Effect.promise(() => container.start()),
    (running) => Effect.ignore(Effect.tryPromise(() => running.stop()))
  )

const replica = (container: StartedTestContainer): Replica => ({
  url: Effect.sync(() => `http://${container.getHost()}:${container.getMappedPort(8123)}`),
  kill: Effect.promise(async () => {
    const client = await getContainerRuntimeClient()
    await client.container.getById(container.getId()).kill()
  }),
  restart: Effect.promise(() => container.restart())
})

export const make = Effect.gen(function* () {
  const network = yield* Effect.acquireRelease(
    Effect.promise(() => new Network().start()),
    (network) => Effect.ignore(Effect.tryPromise(() => network.stop()))
  )
  yield* started(
    new GenericContainer(IMAGE)
      .withNetwork(network)
      .withNetworkAliases("keeper")
      .withCopyContentToContainer([{ content: KEEPER, target: "/etc/keeper.xml" }])
      .withEntrypoint(["clickhouse", "keeper", "--config-file=/etc/keeper.xml"])
      .withExposedPorts(9181)
      .withWaitStrategy(Wait.forListeningPorts())
  )
  const server = (name: string) =>
    new GenericContainer(IMAGE)
      .withNetwork(network)
      .withNetworkAliases(name)
      // Otherwise user `default`, having no password, may not come from outside the container.
      .withEnvironment({ CLICKHOUSE_SKIP_USER_SETUP: "1" })
      .withUlimits({ nofile: { soft: 262_144, hard: 262_144 } })
      .withCopyContentToContainer([
        { content: replicaXml(name), target: "/etc/clickhouse-server/config.d/cluster.xml" }
      ])
      .withExposedPorts(8123)
      .withWaitStrategy(Wait.forHttp("/ping", 8123))
  const [first, second] = yield* Effect.all([started(server("r1")), started(server("r2"))], {
    concurrency: "unbounded"
  })
  return { first: replica(first), second: replica(second) }
})
