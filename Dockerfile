# Builds the images of `cargo xtask image` with Docker:
#
#   docker build --target agent --tag paramedic/agent:0.1.0 .
#   docker build --target metrics-api --tag paramedic/metrics-api:0.1.0 .
#   docker build --target policy --tag paramedic/policy:0.1.0 .
#   docker build --target patient --tag paramedic/patient:0.1.0 .
#
# The labels about the source come from arguments, since .git is not copied into the build:
#
#   --build-arg CREATED="$(git log -1 --format=%cI)" --build-arg REVISION="$(git rev-parse HEAD)"
#
# It needs BuildKit (RUN --mount), which Debian has in a package of its own, docker-buildx, and only
# recommends.
#
# That both ways give an image the same configuration is a test (xtask/src/image/dockerfile.rs); what is
# in it comes out of the same task.
ARG CREATED=1970-01-01T00:00:00Z
ARG REVISION=unknown

# What is missing for eBPF the task fetches itself, as on any machine.
FROM rust:1.95.0-bookworm AS build
WORKDIR /paramedic
COPY . .

FROM build AS build-patient
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/paramedic/target \
    cargo xtask image --root /out patient

FROM build AS build-metrics-api
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/paramedic/target \
    cargo xtask image --root /out metrics-api

FROM build AS build-policy
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/paramedic/target \
    cargo xtask image --root /out policy

FROM build AS build-agent
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/paramedic/target \
    cargo xtask image --root /out agent

FROM scratch AS patient
ARG CREATED
ARG REVISION
COPY --from=build-patient /out/patient/ /
USER 10001:10001
EXPOSE 5000/tcp
ENV PATH=/:/bin
WORKDIR /
ENTRYPOINT ["/patient-app"]
LABEL org.opencontainers.image.title="Paramedic: patient" \
    org.opencontainers.image.description="Paramedic's demo workload: a small HTTP service with injectable illnesses" \
    org.opencontainers.image.version="0.1.0" \
    org.opencontainers.image.licenses="Apache-2.0" \
    org.opencontainers.image.created="$CREATED" \
    org.opencontainers.image.revision="$REVISION"

FROM scratch AS metrics-api
ARG CREATED
ARG REVISION
COPY --from=build-metrics-api /out/metrics-api/ /
USER 10002:10002
EXPOSE 6443/tcp
ENV PATH=/:/bin
WORKDIR /
ENTRYPOINT ["/paramedic-metrics-api"]
LABEL org.opencontainers.image.title="Paramedic: metrics-api" \
    org.opencontainers.image.description="Serves the agents' measurements to the HPA as custom.metrics.k8s.io" \
    org.opencontainers.image.version="0.1.0" \
    org.opencontainers.image.licenses="Apache-2.0" \
    org.opencontainers.image.created="$CREATED" \
    org.opencontainers.image.revision="$REVISION"

FROM scratch AS policy
ARG CREATED
ARG REVISION
COPY --from=build-policy /out/policy/ /
USER 10003:10003
EXPOSE 8080/tcp
ENV PATH=/:/bin
WORKDIR /
ENTRYPOINT ["/paramedic-policy"]
LABEL org.opencontainers.image.title="Paramedic: policy" \
    org.opencontainers.image.description="Turns each HealingPolicy into the labels and annotations that the agents obey" \
    org.opencontainers.image.version="0.1.0" \
    org.opencontainers.image.licenses="Apache-2.0" \
    org.opencontainers.image.created="$CREATED" \
    org.opencontainers.image.revision="$REVISION"

# The last one: what is built where no target is named.
FROM scratch AS agent
ARG CREATED
ARG REVISION
COPY --from=build-agent /out/agent/ /
USER 0:0
EXPOSE 9100/tcp
ENV PATH=/:/bin
WORKDIR /
ENTRYPOINT ["/paramedic"]
LABEL org.opencontainers.image.title="Paramedic: agent" \
    org.opencontainers.image.description="The first responder on every node: watches, decides, heals, verifies, explains" \
    org.opencontainers.image.version="0.1.0" \
    org.opencontainers.image.licenses="Apache-2.0" \
    org.opencontainers.image.created="$CREATED" \
    org.opencontainers.image.revision="$REVISION"
