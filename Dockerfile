# Every image of the project from one build: docker build --target NAME .
#
#   indexer     the sidecar
#   filter      the module alone, as Istio and Envoy Gateway fetch it
#   envoy       Envoy with the module and the bootstrap in it
#   simworker   simulated engines, for trying everything without a GPU

FROM rust:1.95-bookworm AS build
WORKDIR /source
COPY . .
RUN rustup target add wasm32-wasip1
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/source/target \
    cargo build --locked --release --package warmpath-indexer --package warmpath-simworker && \
    cargo build --locked --profile wasm --target wasm32-wasip1 --package warmpath-filter --lib && \
    mkdir /out && \
    cp target/release/warmpath-indexer target/release/warmpath-simworker \
       target/wasm32-wasip1/wasm/warmpath_filter.wasm /out/

FROM gcr.io/distroless/cc-debian12:nonroot AS indexer
COPY --from=build /out/warmpath-indexer /usr/local/bin/warmpath-indexer
EXPOSE 7000 7001
ENTRYPOINT ["/usr/local/bin/warmpath-indexer"]

FROM gcr.io/distroless/cc-debian12:nonroot AS simworker
COPY --from=build /out/warmpath-simworker /usr/local/bin/warmpath-simworker
ENTRYPOINT ["/usr/local/bin/warmpath-simworker"]

# One layer with one file of this name is what both control planes take.
FROM scratch AS filter
COPY --from=build /out/warmpath_filter.wasm /plugin.wasm

# The bootstrap names the module relative to the working directory.
FROM envoyproxy/envoy:v1.40.0 AS envoy
WORKDIR /warmpath
COPY --from=build /out/warmpath_filter.wasm dist/warmpath_filter.wasm
COPY envoy/bootstrap.yaml envoy/bootstrap.yaml
EXPOSE 8000
CMD ["envoy", "-c", "envoy/bootstrap.yaml"]
