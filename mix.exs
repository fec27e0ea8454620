defmodule Image.ZeroShot.MixProject do
  use Mix.Project

  # Not in lib/: the compiler that builds the native part must exist before anything is compiled.
  Code.require_file("native/build/cargo.exs", __DIR__)

  @version "0.1.0"

  # To be filled in when the repository has a public address: documentation and the package link to it.
  @source_url nil

  def project do
    [
      app: :image_zero_shot,
      version: @version,
      elixir: "~> 1.14",
      compilers: [:cargo] ++ Mix.compilers(),
      cargo_crates: ["nif", "nif_torch"],
      elixirc_paths: elixirc_paths(Mix.env()),
      # Mix names files in test/ that are not tests.
      test_ignore_filters: [&String.starts_with?(&1, ["test/support/", "test/fixtures/"])],
      deps: [],
      name: "Image.ZeroShot",
      description: "Zero-shot image classification with CLIP on libtorch, in the same VM",
      package: package(),
      source_url: @source_url,
      docs: docs()
    ]
  end

  def application do
    [mod: {Image.ZeroShot.Application, []}, extra_applications: extra_applications(Mix.env())]
  end

  # Tests make hashes and speak TLS.
  defp extra_applications(:test), do: [:logger, :crypto, :ssl]
  defp extra_applications(_), do: [:logger]

  defp elixirc_paths(:test), do: ["lib", "test/support"]
  defp elixirc_paths(_), do: ["lib"]

  defp docs do
    [
      main: "readme",
      source_ref: "v#{@version}",
      # Markdown is for coding assistants, and for "Copy Markdown" on each page.
      formatters: ["html", "markdown"],
      # ARCHITECTURE.md names modules that are not for users.
      skip_code_autolink_to: ["Image.ZeroShot.Native", "Image.ZeroShot.Native.Torch"],
      # README links to its screenshot from the root.
      assets: %{"guides/images" => "images", "guides/screens" => "guides/screens"},
      extras: Enum.map(["README.md"] ++ pages() ++ ["CHANGELOG.md"], &page/1),
      groups_for_extras: [Guides: guides(), Notebooks: notebooks(), Project: project_pages()],
      groups_for_modules: [
        Classify: [
          Image.ZeroShot,
          Image.ZeroShot.Classifier,
          Image.ZeroShot.Embedding,
          Image.ZeroShot.Index,
          Image.ZeroShot.Source,
          Image.ZeroShot.Error
        ],
        Serve: [
          Image.ZeroShot.Serving,
          Image.ZeroShot.Hub,
          Image.ZeroShot.Telemetry,
          Image.ZeroShot.LiveDashboard
        ],
        Test: [Image.ZeroShot.Test]
      ]
    ]
  end

  defp guides,
    do:
      ~w(guides/labels.md guides/explain.md guides/search.md guides/models.md guides/phoenix.md) ++
        ~w(guides/production.md guides/scaling.md guides/testing.md)

  defp notebooks,
    do: ~w(livebooks/classify.livemd livebooks/search.livemd livebooks/explain.livemd)

  defp pages, do: guides() ++ notebooks() ++ project_pages()

  # ExDoc has a search.html of its own, and the notebooks have the names of guides.
  defp page("guides/search.md" = path), do: {path, filename: "searching"}

  defp page("livebooks/" <> name = path),
    do: {path, filename: "notebook-" <> Path.rootname(name)}

  defp page(path), do: path

  defp project_pages, do: ~w(ARCHITECTURE.md DEVELOPMENT.md SECURITY.md)

  defp package do
    [
      licenses: ["Apache-2.0"],
      links: links(),
      files:
        ~w(lib guides livebooks priv/demo priv/models priv/samples priv/vocabulary native/**/src native/**/{Cargo.toml,build.rs}) ++
          ~w(native/build/*.{exs,py,txt} native/build/README.md .cargo/config.toml Cargo.toml Cargo.lock) ++
          ~w(mix.exs .formatter.exs README.md usage-rules.md CHANGELOG.md LICENSE) ++
          project_pages()
    ]
  end

  # Empty until the library has a public address.
  defp links do
    for url <- List.wrap(@source_url),
        {name, path} <- [{"Source", ""}, {"Changelog", "/blob/v#{@version}/CHANGELOG.md"}],
        into: %{},
        do: {name, url <> path}
  end
end
