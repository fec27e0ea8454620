defmodule Mix.Tasks.ImageVision.DownloadModels do
  @shortdoc "Downloads the model for zero-shot classification"

  @moduledoc """
  Downloads the model that the application is configured for, and exports its encoders.

      $ mix image_vision.download_models --zero-shot
      $ mix image_vision.download_models --zero-shot --repo openai/clip-vit-large-patch14
      $ mix image_vision.download_models --zero-shot --offline-check

  The first call of `Image.ZeroShot` in a VM then only reads files, and needs no network. In a
  build of an image or a release this is the step that brings the model in.

  It reads the configuration that the application runs with, `config/runtime.exs` included, and the
  environment; see `Image.ZeroShot.Hub`. A model in the cache is not downloaded again. Progress is a
  bar on a terminal, and a line for every ten per cent elsewhere. A failure ends the task with one line
  that says what to do, and with exit status 1.

  ## Flags

    * `--zero-shot` - the model of `Image.ZeroShot`. It is the only one here, and the default
    * `--repo MODEL` - another model than the configured one: `org/name` on the Hub, a directory, or `embedded`. For
      the last two there is nothing to download, and only the encoders are exported
    * `--revision REVISION` - a branch, a tag or a commit of it
    * `--offline-check` - sends no request: fails if anything is missing that would have to be
      downloaded
    * `--no-export` - leaves out the encoders, and with them libtorch: the first call exports them

  ## Beside image_vision

  This task has the name and the flag of image_vision's, so scripts keep working. image_vision's flags
  `--classify`, `--segment`, `--detect`, `--background` and `--caption` are for models that this package
  does not have. A project that depends on both packages has this module twice: use image_vision's task
  for its models, and `mix download_models --zero-shot` for this package's.
  """

  use Mix.Task

  @impl true
  def run([help | _]) when help in ["--help", "-h"],
    do: Mix.Task.run("help", ["image_vision.download_models"])

  def run(argv), do: Mix.Tasks.DownloadModels.run(argv)
end
