defmodule Image.ZeroShot.MixProject do
  use Mix.Project

  # Not in lib/: the compiler that builds the native part must exist before anything is compiled.
  Code.require_file("native/build/cargo.exs", __DIR__)

  @version "0.1.0"

  def project do
    [
      app: :image_zero_shot,
      version: @version,
      elixir: "~> 1.14",
      compilers: [:cargo] ++ Mix.compilers(),
      cargo_crates: ["nif", "nif_torch"],
      elixirc_paths: elixirc_paths(Mix.env()),
      # Mix names files in test/ that are no tests.
      test_ignore_filters: [&String.starts_with?(&1, ["test/support/", "test/fixtures/"])],
      deps: [],
      name: "Image.ZeroShot",
      description: "Zero-shot image classification with CLIP on libtorch, in the same VM",
      package: package(),
      docs: [
        main: "readme",
        extras: [
          "README.md",
          "guides/models.md",
          "guides/labels.md",
          "guides/phoenix.md",
          "guides/production.md",
          "ARCHITECTURE.md",
          "DEVELOPMENT.md",
          "CHANGELOG.md",
          "SECURITY.md"
        ]
      ]
    ]
  end

  def application do
    [mod: {Image.ZeroShot.Application, []}, extra_applications: extra_applications(Mix.env())]
  end

  # Tests make hashes.
  defp extra_applications(:test), do: [:logger, :crypto]
  defp extra_applications(_), do: [:logger]

  defp elixirc_paths(:test), do: ["lib", "test/support"]
  defp elixirc_paths(_), do: ["lib"]

  defp package do
    [
      licenses: ["Apache-2.0"],
      links: %{},
      files:
        ~w(lib guides priv/models priv/samples native/**/src native/**/{Cargo.toml,build.rs}) ++
          ~w(native/build/*.{exs,py,txt} .cargo/config.toml Cargo.toml Cargo.lock) ++
          ~w(mix.exs .formatter.exs README.md ARCHITECTURE.md DEVELOPMENT.md CHANGELOG.md SECURITY.md LICENSE)
    ]
  end
end
