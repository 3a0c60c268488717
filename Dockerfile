# One image with all programs; compose.yaml says which one a container runs.
FROM rust:1.95.0-bookworm AS build
RUN apt-get update && apt-get install -y --no-install-recommends clang libclang-dev pkg-config \
        libavcodec-dev libavdevice-dev libavfilter-dev libavformat-dev libavutil-dev libswresample-dev libswscale-dev \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY . .
# The image has this toolchain, without the components that rust-toolchain.toml asks for and nobody needs here.
ENV RUSTUP_TOOLCHAIN=1.95.0
RUN --mount=type=cache,target=/usr/local/cargo/registry --mount=type=cache,target=/src/target \
    cargo build --workspace --bins --locked \
    && install -D -t /out target/debug/fourmi target/debug/fourmi-api target/debug/fourmi-amqp target/debug/fourmi-insight target/debug/fourmi-maintenance target/debug/fourmi-media target/debug/fourmi-messaging target/debug/fourmi-schedules

# yt-dlp in a venv of its own, as scripts/setup makes it. The venv uses the Python of the image that it goes to: the same Debian.
FROM debian:bookworm-slim AS ytdlp
RUN apt-get update && apt-get install -y --no-install-recommends ca-certificates python3 python3-venv \
    && rm -rf /var/lib/apt/lists/*
COPY workers/media/yt-dlp.txt /
RUN python3 -m venv /opt/yt-dlp \
    && /opt/yt-dlp/bin/pip install --no-cache-dir --disable-pip-version-check --no-deps -r /yt-dlp.txt

FROM debian:bookworm-slim
RUN apt-get update && apt-get install -y --no-install-recommends ca-certificates ffmpeg python3 \
        libavcodec59 libavdevice59 libavfilter8 libavformat59 libavutil57 libswresample4 libswscale6 \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --system --uid 10001 --home-dir /data fourmi && install -d -o fourmi -m 700 /data
COPY --from=build /out/ /usr/local/bin/
COPY --from=ytdlp /opt/yt-dlp /opt/yt-dlp
USER fourmi
ENV FOURMI_DATA=/data FOURMI_YTDLP=/opt/yt-dlp/bin/yt-dlp
VOLUME /data
CMD ["fourmi-api"]
