# syntax=docker/dockerfile:1
#
# A release with its model inside. The image needs neither a network nor a token when it starts:
#
#     docker build --tag zero-shot .
#     docker run --rm --volume "$PWD/priv/samples:/pictures:ro" zero-shot eval \
#       'Application.ensure_all_started(:image_zero_shot)
#        IO.inspect(Image.ZeroShot.classify({:path, "/pictures/dog.jpg"}, ["a dog", "a cat"]))'
#
# This release is the library itself. In an application of your own, keep the steps, add `mix deps.get`
# before `mix compile`, and copy your release.

FROM debian:bookworm-slim AS build
ENV LANG=C.UTF-8 MIX_ENV=prod XDG_CACHE_HOME=/models PATH=/root/.cargo/bin:$PATH
WORKDIR /src
# Elixir, Rust, a C++ compiler, CMake, NASM, Python with pip. Alone, so that changes of the sources
# leave this layer as it is.
COPY bin/setup bin/setup
RUN bin/setup
COPY . .
# Installs libtorch, and builds the native libraries.
RUN mix compile
# The configured model, and the encoders that are exported from it. For a gated model:
# docker build --secret id=hf,env=HF_TOKEN .
RUN --mount=type=secret,id=hf,env=HF_TOKEN mix download_models --zero-shot
RUN mix release --path /release

FROM debian:bookworm-slim
# What the VM and libtorch link, spelt out, although slim images happen to have most of it.
RUN apt-get update \
 && apt-get install --yes --no-install-recommends libstdc++6 libsystemd0 libtinfo6 zlib1g \
 && rm -rf /var/lib/apt/lists/*
# Both caches are complete: nothing is written to them, and no request is sent.
ENV LANG=C.UTF-8 XDG_CACHE_HOME=/models HF_HUB_OFFLINE=1 RELEASE_TMP=/tmp
COPY --from=build --chown=nobody:nogroup /models/huggingface /models/huggingface
COPY --from=build --chown=nobody:nogroup /models/image_zero_shot/encoders /models/image_zero_shot/encoders
COPY --from=build --chown=nobody:nogroup /release /app
USER nobody
ENTRYPOINT ["/app/bin/image_zero_shot"]
CMD ["start"]
