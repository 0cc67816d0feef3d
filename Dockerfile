# syntax=docker/dockerfile:1

FROM --platform=$BUILDPLATFORM golang:1.26 AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN --mount=type=cache,target=/go/pkg/mod go mod download
COPY . .
ARG VERSION=
ARG TARGETOS
ARG TARGETARCH
RUN --mount=type=cache,target=/go/pkg/mod --mount=type=cache,target=/root/.cache/go-build \
    CGO_ENABLED=0 GOOS=$TARGETOS GOARCH=$TARGETARCH \
    go build -trimpath -tags=nomsgpack -ldflags "-s -w -X main.version=$VERSION" -o /out/signet ./cmd/signet \
    && mkdir /out/data

FROM gcr.io/distroless/static-debian12:nonroot
COPY --from=build /out/signet /signet
# For the embedded database: docker run -v signet:/data …; with PostgreSQL nothing is written.
COPY --from=build --chown=65532:65532 /out/data /data
ENV SIGNET_LISTEN=:8080 SIGNET_MANAGEMENT_LISTEN=:8081 SIGNET_DATA_DIR=/data
USER 65532:65532
EXPOSE 8080 8081
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --start-interval=1s CMD ["/signet", "healthcheck"]
ENTRYPOINT ["/signet"]
CMD ["serve"]
