defmodule Mix.Tasks.DownloadModels do
  @shortdoc "Downloads the model for zero-shot classification"

  @moduledoc """
  Downloads the model that the application is configured for, and exports its encoders.

      $ mix download_models --zero-shot

  Same as `mix image_vision.download_models`, which documents the flags, under a name that does not
  clash when image_vision is a dependency too.
  """

  use Mix.Task

  alias Image.ZeroShot.CLI.Prefetch

  @impl true
  def run([help | _]) when help in ["--help", "-h"], do: Mix.Task.run("help", ["download_models"])

  def run(argv) do
    # Only the configuration: the project itself is not started.
    Mix.Task.run("app.config")
    {:ok, _started} = Application.ensure_all_started(:image_zero_shot)

    # Elixir's launcher allows colours where both outputs are a terminal.
    case Prefetch.run(argv, terminal: IO.ANSI.enabled?()) do
      :ok -> :ok
      {:error, message} -> Mix.raise(message)
    end
  end
end
