defmodule Image.ZeroShot.Repo do
  @moduledoc false

  # From the `:repo` option to a directory on this machine. Models by name come in here.

  alias Image.ZeroShot.Error

  @type t ::
          :embedded
          | {:local, Path.t()}
          | String.t()
          | {:hf, String.t()}
          | {:hf, String.t(), keyword()}

  @spec directory(t()) :: {:ok, Path.t()} | {:error, Error.t()}
  def directory(:embedded),
    do: {:ok, Application.app_dir(:image_zero_shot, "priv/models/emoji-clip")}

  def directory({:local, directory}), do: {:ok, Path.expand(directory)}
  def directory({:hf, name}), do: directory(name)
  def directory({:hf, name, _opts}), do: directory(name)

  def directory(name) when is_binary(name) do
    Error.error(
      :unsupported_repo,
      "cannot get the model #{inspect(name)}: this version does not fetch models by name; " <>
        "give repo: {:local, directory} with a model in Hugging Face layout, or repo: :embedded " <>
        "for the small model that comes with the library and knows emoji only"
    )
  end
end
