Code.require_file("libtorch.exs", __DIR__)
Code.require_file("artifact.exs", __DIR__)

defmodule Mix.Tasks.Compile.Cargo do
  @shortdoc "Builds the crates named in the project's :cargo_crates"
  @moduledoc """
  Builds the crates named in `:cargo_crates`, a key of `project/0`, and installs them in `priv`.

  libtorch is found or installed first (see `native/build/libtorch.exs`); `priv/libtorch` leads to its
  libraries, where the installed crates look for them. `mix release` turns that link into a copy.

  cargo decides what is out of date and where it builds, by its own variables and configuration, so
  that mix in every environment and `cargo test --release` share one build. It also says where each
  library lies: `CARGO_BUILD_TARGET` and the like move them.

  Where `IMAGE_ZERO_SHOT_PRECOMPILED` names an archive of the libraries, they are taken from there, and
  neither cargo nor a compiler is needed (see `native/build/artifact.exs`).
  """

  use Mix.Task.Compiler

  alias Image.ZeroShot.Build.{Artifact, Libtorch}

  @recursive true
  @needed "1.91"
  @get_rust "see https://rustup.rs, or run `bin/setup` in image_zero_shot's own checkout"

  @impl true
  def run(_args) do
    crates = crates()

    {root, libraries} =
      case System.get_env(Artifact.variable(), "") do
        "" -> built!(crates)
        place -> precompiled!(place, crates)
      end

    File.mkdir_p!("priv")
    linked = Libtorch.link!(Path.join(root, "lib"), priv("libtorch"))
    installed = for crate <- crates, do: install!(libraries[crate], installed(crate))

    if Enum.any?([linked | installed]), do: {write_manifest(crates), []}, else: {:noop, []}
  end

  @impl true
  def manifests, do: [Path.join(Mix.Project.manifest_path(), "compile.cargo")]

  # cargo's own folder stays: it holds the minutes that libtorch's bindings take to compile.
  @impl true
  def clean do
    Enum.each([priv("libtorch") | Enum.map(crates(), &installed/1)], &File.rm/1)
    Enum.each(manifests(), &File.rm/1)
  end

  defp crates, do: Keyword.fetch!(Mix.Project.config(), :cargo_crates)

  # What is missing is said before libtorch is downloaded.
  defp built!(crates) do
    cargo = cargo!()
    root = Libtorch.ensure!(Path.expand("native/build"))
    messages = build!(cargo, crates)
    {root, Map.new(crates, &{&1, messages |> artefact!(&1) |> File.read!()})}
  end

  defp precompiled!(place, crates) do
    version = Mix.Project.config()[:version]
    libraries = Artifact.libraries!(place, crates, version, "native/build/checksums.txt")
    root = Libtorch.ensure!(Path.expand("native/build"))
    {Libtorch.check_version!(root), libraries}
  end

  # rustup's folder may not be in PATH yet in the shell that installed it.
  defp cargo! do
    home = System.get_env("CARGO_HOME") || Path.expand("~/.cargo")

    System.find_executable("cargo") || System.find_executable(Path.join(home, "bin/cargo")) ||
      Mix.raise("expected cargo #{@needed} or later in PATH, found none; #{@get_rust}")
  end

  # Returns what cargo tells about its artefacts, one JSON object a line.
  defp build!(cargo, crates) do
    packages = Enum.flat_map(crates, &["--package", &1])
    quiet = if changed?(crates), do: [], else: ["--quiet"]

    # A panic is caught before it reaches the VM; a user's configuration may say "abort".
    unwind = ["--config", ~s(profile.release.panic="unwind")]
    format = ["--message-format", "json-render-diagnostics"]
    arguments = ["build", "--release", "--locked"] ++ unwind ++ format ++ quiet ++ packages

    # The rest goes to stderr, which cargo inherits: colours and its progress bar are as in a terminal.
    case System.cmd(cargo, arguments) do
      {messages, 0} -> String.split(messages, "\n", trim: true)
      {_, status} -> failed!(cargo, status)
    end
  end

  # Only about what is printed: a build that has nothing to do should say nothing.
  defp changed?(crates) do
    built = crates |> Enum.map(&installed/1) |> Enum.map(&mtime/1) |> Enum.min()
    sources = ["Cargo.*", "native/*/{Cargo.toml,build.rs}", "native/*/src/**/*.rs"]
    sources |> Enum.flat_map(&Path.wildcard/1) |> Enum.any?(&(mtime(&1) > built))
  end

  defp mtime(path) do
    case File.stat(path, time: :posix) do
      {:ok, stat} -> stat.mtime
      {:error, _} -> 0
    end
  end

  defp failed!(cargo, status) do
    {version, _} = System.cmd(cargo, ["--version"])

    with [number] <- Regex.run(~r/\d+\.\d+\.\d+/, version),
         :lt <- Version.compare(number, @needed <> ".0") do
      Mix.raise("expected cargo #{@needed} or later, found #{number}; #{@get_rust}")
    else
      _ -> Mix.raise("cargo build ended with status #{status}")
    end
  end

  # The library that this build made or found up to date, never one that an earlier build left.
  defp artefact!(messages, crate) do
    artefact? =
      &(&1 =~ ~s("reason":"compiler-artifact") and &1 =~ ~s("name":"#{crate}","src_path":))

    case messages |> Enum.filter(artefact?) |> Enum.flat_map(&libraries/1) do
      [library] ->
        library

      [] ->
        Mix.raise("expected cargo to build a library of the crate #{crate}, it names none")

      several ->
        Mix.raise(
          "expected cargo to build #{crate} once, it did for several targets: " <>
            "#{Enum.join(several, ", ")}; name one in CARGO_BUILD_TARGET"
        )
    end
  end

  # JSON escapes of a path no more than quotes and backslashes.
  defp libraries(message) do
    for [path] <- Regex.scan(~r/"((?:[^"\\]|\\.)*)"/, message, capture: :all_but_first),
        Path.extname(path) in [".so", ".dylib"],
        do: String.replace(path, ~r/\\(.)/, "\\1")
  end

  # A new file under the old name: a VM that has the old library mapped keeps it unharmed.
  defp install!(library, to) do
    if File.read(to) == {:ok, library} do
      # Newer than every source, see changed?/1.
      File.touch!(to)
      false
    else
      new = "#{to}.new#{System.pid()}"
      File.write!(new, library)
      File.chmod!(new, 0o755)
      File.rename!(new, to)
      true
    end
  end

  # :erlang.load_nif/2 looks for .so, on macOS too.
  defp installed(crate), do: priv(crate <> ".so")
  defp priv(name), do: Path.join("priv", name)

  defp write_manifest(crates) do
    [manifest] = manifests()
    File.mkdir_p!(Path.dirname(manifest))
    File.write!(manifest, Enum.map(crates, &[installed(&1), ?\n]))
    :ok
  end
end
