# syntax=docker/dockerfile:1

# JavaScript is the same on every platform: it is compiled once, on the builder's own.
FROM --platform=$BUILDPLATFORM node:24.19-bookworm-slim AS build
WORKDIR /app
COPY package.json package-lock.json ./
RUN --mount=type=cache,target=/root/.npm npm ci --ignore-scripts --no-audit --no-fund
COPY tsconfig.json tsconfig.build.json ./
COPY src ./src
COPY console ./console
# Nothing that runs imports the databases for tests, and their packages are not in the image.
RUN npm run build \
    && rm -r dist/embedded dist/testing dist/.tsbuildinfo \
    && find dist -name '*.d.ts' -delete

FROM node:24.19-bookworm-slim AS dependencies
WORKDIR /app
COPY package.json package-lock.json ./
# Types, sources and source maps are half of what npm installs, and no program reads them.
RUN --mount=type=cache,target=/root/.npm npm ci --omit=dev --ignore-scripts --no-audit --no-fund \
    && find node_modules -type f '(' -name '*.ts' -o -name '*.mts' -o -name '*.cts' -o -name '*.map' ')' -delete

FROM node:24.19-bookworm-slim AS runtime
LABEL org.opencontainers.image.title="clickhouse-outbox" \
      org.opencontainers.image.description="A transactional outbox from PostgreSQL to ClickHouse" \
      org.opencontainers.image.licenses="MIT"
ENV NODE_ENV=production
WORKDIR /app
COPY --from=dependencies /app/node_modules ./node_modules
COPY package.json LICENSE ./
COPY migrations ./migrations
COPY --from=build /app/dist ./dist
# By number, so that Kubernetes can tell that it is not root. The files are root's: a program cannot change itself.
USER 1000:1000
STOPSIGNAL SIGTERM

# The users service of examples/, which Node runs as it stands. It finds the package by the name in package.json.
FROM runtime AS example
COPY examples/users ./examples/users
EXPOSE 3000
# Any answer will do, also that there is nothing at this path.
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --start-interval=1s --retries=3 \
  CMD ["node", "-e", "fetch(`http://127.0.0.1:${process.env.PORT || 3000}/`, { signal: AbortSignal.timeout(4000) }).then(() => process.exit(0), () => process.exit(1))"]
ENTRYPOINT ["node", "/app/examples/users/main.ts"]

# The last stage is what is built unless another is asked for.
FROM runtime AS relay
# Without OUTBOX_HTTP_TOKEN the relay listens on loopback all the same.
ENV OUTBOX_HTTP_HOST=0.0.0.0
EXPOSE 8686
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --start-interval=1s --retries=3 \
  CMD ["node", "-e", "process.env.OUTBOX_HTTP_PORT === 'off' || fetch(`http://127.0.0.1:${process.env.OUTBOX_HTTP_PORT || 8686}/healthz`, { signal: AbortSignal.timeout(4000) }).then((answer) => process.exit(answer.ok ? 0 : 1), () => process.exit(1))"]
ENTRYPOINT ["node", "/app/dist/main.js"]
CMD ["relay"]
