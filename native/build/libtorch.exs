defmodule Image.ZeroShot.Build.Libtorch do
  @moduledoc false
  # Finds libtorch, or installs it, and makes the link that everything else builds against.
  #
  #   * `LIBTORCH` set: that one, as it is.
  #   * else `libtorch-<version>-<variant>` in the user's cache directory, installed there by
  #     `libtorch.py` when missing. `LIBTORCH_VARIANT` is `cpu` (the default) or `cuda`.
  #
  # `native/build/libtorch` then leads to it: one path, the same for cargo and mix, so that changing the
  # variant does not make cargo compile everything again.

  @version "2.11.0"
  @way_out "or set LIBTORCH to the folder of a libtorch #{@version}"

  def version, do: @version

  # Returns libtorch's root, a folder with `lib` and `include`.
  def ensure!(build_dir) do
    link = Path.join(build_dir, "libtorch")

    root =
      case System.get_env("LIBTORCH", "") do
        "" -> installed!(build_dir)
        path -> path |> Path.expand() |> unless_link(link) |> check!()
      end

    link!(root, link)
    root
  end

  # LIBTORCH may name the very link that is made here; it must not be led to itself.
  defp unless_link(path, link) do
    if path == link and match?({:ok, _}, File.read_link(link)),
      do: File.read_link!(link),
      else: path
  end

  defp installed!(build_dir) do
    variant = variant!()
    root = Path.join(cache_dir!(), "libtorch-#{@version}-#{variant}")

    unless File.regular?(Path.join(root, "build-version")),
      do: install!(root, variant, build_dir)

    root
  end

  defp install!(root, variant, build_dir) do
    files = for file <- requirements(variant), do: Path.join(build_dir, file)
    python = System.find_executable("python3") || fail!("expected python3 in PATH, found none")
    arguments = [Path.join(build_dir, "libtorch.py"), root, platform!(variant) | files]

    # Only the reason for a failure comes back; progress goes straight to the terminal's stderr.
    case System.cmd(python, arguments) do
      {_, 0} -> root
      {"", status} -> fail!("python3 ended with status #{status}")
      {reason, _} -> fail!(String.trim(reason))
    end
  end

  defp requirements("cpu"), do: ["libtorch.txt"]
  defp requirements("cuda"), do: ["libtorch.txt", "libtorch-cuda.txt"]

  defp variant! do
    case System.get_env("LIBTORCH_VARIANT", "cpu") do
      variant when variant in ["", "cpu"] -> "cpu"
      "cuda" -> "cuda"
      other -> Mix.raise("expected LIBTORCH_VARIANT to be cpu or cuda, got: #{other}")
    end
  end

  defp platform!(variant) do
    case {:os.type(), List.to_string(:erlang.system_info(:system_architecture)), variant} do
      {{:unix, :linux}, "x86_64" <> rest, _} -> glibc!(rest, "x86_64")
      {{:unix, :linux}, "aarch64" <> rest, _} -> glibc!(rest, "aarch64")
      {{:unix, :darwin}, "aarch64" <> _, "cpu"} -> "arm64"
      {{:unix, :darwin}, "arm" <> _, "cpu"} -> "arm64"
      {{:unix, :darwin}, _, "cuda"} -> fail!("there is no CUDA for macOS: unset LIBTORCH_VARIANT")
      {_, other, _} -> unsupported!(other)
    end
  end

  @doc """
  This platform, as Rust names it.
  """
  def target! do
    case platform!("cpu") do
      "arm64" -> "aarch64-apple-darwin"
      processor -> "#{processor}-unknown-linux-gnu"
    end
  end

  # PyPI's Linux builds are for glibc.
  defp glibc!(rest, platform) do
    if String.contains?(rest, "musl"), do: unsupported!(platform <> rest), else: platform
  end

  defp unsupported!(architecture) do
    fail!("expected Linux (x86_64 or aarch64, glibc) or macOS (arm64), this is #{architecture}")
  end

  def cache_dir! do
    System.user_home() || fail!("expected HOME to be set")
    :filename.basedir(:user_cache, "image_zero_shot")
  end

  @doc """
  Raises where a libtorch says that it is of another version than this one.
  """
  def check_version!(root) do
    with {:ok, text} <- File.read(Path.join(root, "build-version")),
         found = text |> String.trim() |> String.split("+") |> hd(),
         false <- found == @version do
      Mix.raise(
        "expected libtorch #{@version} for libraries that were built with it, found #{found} in " <>
          "#{root}; unset LIBTORCH, or build from source"
      )
    else
      _same_or_unknown -> root
    end
  end

  defp check!(root) do
    library =
      if match?({_, :darwin}, :os.type()), do: "libtorch_cpu.dylib", else: "libtorch_cpu.so"

    missing = Enum.reject(["lib/#{library}", "include/torch"], &File.exists?(Path.join(root, &1)))

    unless missing == [] do
      Mix.raise("expected LIBTORCH to hold #{Enum.join(missing, " and ")}, found none in #{root}")
    end

    root
  end

  # Whether the link had to be made. There is a link under this name at every moment.
  def link!(target, link) do
    new = "#{link}.new#{System.pid()}"

    with {:read, false} <- {:read, File.read_link(link) == {:ok, target}},
         _ = File.rm(new),
         :ok <- File.mkdir_p(Path.dirname(link)),
         :ok <- File.ln_s(target, new),
         :ok <- File.rename(new, link) do
      true
    else
      {:read, true} ->
        false

      {:error, reason} ->
        File.rm(new)
        Mix.raise("could not make the link #{link} to #{target}: #{:file.format_error(reason)}")
    end
  end

  defp fail!(reason) do
    Mix.raise("libtorch #{@version} is not installed: #{reason}; mend that, #{@way_out}")
  end
end
