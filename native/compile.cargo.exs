Code.require_file("libtorch.exs", __DIR__)

defmodule Mix.Tasks.Compile.Cargo do
  @shortdoc "Builds the crates named in the project's :cargo_crates"
  @moduledoc """
  Builds the crates named in `:cargo_crates`, a key of `project/0`, and installs them in `priv`.

  libtorch is found or installed first (see `native/libtorch.exs`); `priv/libtorch` leads to its
  libraries, where the installed crates look for them. `mix release` turns that link into a copy.

  cargo decides what is out of date. Its folder is `CARGO_TARGET_DIR`, or `target`, so that mix in
  every environment and `cargo test --release` share one build.
  """

  use Mix.Task.Compiler

  alias Image.ZeroShot.Build.Libtorch

  @recursive true
  @needed "1.91"
  @get_rust "see https://rustup.rs, or run `bin/setup` in image_zero_shot's own checkout"

  @impl true
  def run(_args) do
    crates = crates()
    cargo = cargo!()
    root = Libtorch.ensure!(Path.expand("native"))
    build!(cargo, crates)

    File.mkdir_p!("priv")
    linked = Libtorch.link!(Path.join(root, "lib"), priv("libtorch"))
    installed = Enum.map(crates, &install!/1)
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

  # rustup's folder may not be in PATH yet in the shell that installed it.
  defp cargo! do
    home = System.get_env("CARGO_HOME") || Path.expand("~/.cargo")

    System.find_executable("cargo") || System.find_executable(Path.join(home, "bin/cargo")) ||
      Mix.raise("expected cargo #{@needed} or later in PATH, found none; #{@get_rust}")
  end

  defp build!(cargo, crates) do
    packages = Enum.flat_map(crates, &["--package", &1])
    quiet = if changed?(crates), do: [], else: ["--quiet"]

    arguments =
      ["build", "--release", "--locked", "--target-dir", target_dir()] ++ quiet ++ packages

    # cargo writes to stderr, which it inherits: colours and its progress bar are as in a terminal.
    {_, status} = System.cmd(cargo, arguments)
    if status != 0, do: failed!(cargo, status)
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

  # A new file under the old name: a VM that has the old library mapped keeps it unharmed.
  defp install!(crate) do
    {from, to} = {artefact(crate), installed(crate)}

    if same?(from, to) do
      # Newer than every source, see changed?/1.
      File.touch!(to)
      false
    else
      new = "#{to}.new#{System.pid()}"
      File.cp!(from, new)
      File.rename!(new, to)
      true
    end
  end

  defp same?(from, to) do
    File.exists?(to) and File.stat!(from).size == File.stat!(to).size and
      File.read!(from) == File.read!(to)
  end

  defp artefact(crate) do
    extension = if match?({_, :darwin}, :os.type()), do: "dylib", else: "so"
    Path.join([target_dir(), "release", "lib#{crate}.#{extension}"])
  end

  defp target_dir, do: System.get_env("CARGO_TARGET_DIR") || "target"
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
