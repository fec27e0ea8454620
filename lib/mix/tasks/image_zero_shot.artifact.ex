defmodule Mix.Tasks.ImageZeroShot.Artifact do
  @shortdoc "Packs the native libraries for projects without a compiler"

  @moduledoc """
  Packs the native libraries of this platform into an archive, for a release of this library.

      $ mix image_zero_shot.artifact FOLDER

  Writes the archive into the folder, and enters its SHA-256 in `native/build/checksums.txt`. Commit that file.
  With `IMAGE_ZERO_SHOT_PRECOMPILED` set to the archive's path or `https://` address, a project builds without Rust
  and without a C++ compiler.

  For maintainers: it works in a checkout of this library only.
  """

  use Mix.Task

  alias Image.ZeroShot.Build.Artifact

  # Comes with mix.exs, not with the compiled library.
  @compile {:no_warn_undefined, Artifact}
  @checksums "native/build/checksums.txt"

  @impl true
  def run([help | _]) when help in ["--help", "-h"],
    do: Mix.Task.run("help", ["image_zero_shot.artifact"])

  def run(argv) do
    config = Mix.Project.config()

    unless config[:app] == :image_zero_shot and File.regular?(@checksums),
      do: Mix.raise("expected to run in a checkout of image_zero_shot, found no #{@checksums}")

    folder = folder!(argv)
    Mix.Task.run("compile")
    archive = Artifact.pack!(config[:cargo_crates], config[:version], "priv", folder, @checksums)
    Mix.shell().info("Packed #{archive}, and entered it in #{@checksums}: commit that file")
  end

  defp folder!(["-" <> _ = flag | _]), do: Mix.raise("expected a folder, got: #{flag}")
  defp folder!([folder]), do: folder

  defp folder!(_none_or_several) do
    Mix.raise(
      "expected one folder for the archive, whose checksum is entered in #{@checksums}: " <>
        "mix image_zero_shot.artifact FOLDER"
    )
  end
end
