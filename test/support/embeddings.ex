defmodule Image.ZeroShot.Test.Embeddings do
  @moduledoc false

  # Embeddings as the public verbs get them, through a serving.

  alias Image.ZeroShot
  alias Image.ZeroShot.Call.Options
  alias Image.ZeroShot.Serving.Model
  alias Image.ZeroShot.Serving.Client

  @embedded [repo: :embedded, device: :cpu]

  @doc """
  Rows of embeddings of preprocessed pictures.
  """
  def images(pixels, opts \\ @embedded) do
    with {:ok, %{images: images}} <- encode(pixels, [], opts), do: {:ok, images}
  end

  @doc """
  Rows of embeddings of prompts, and the indices of those that were cut.
  """
  def texts(prompts, opts \\ @embedded) do
    with {:ok, %{texts: texts, truncated: cut}} <- encode([], prompts, opts),
         do: {:ok, {texts, cut}}
  end

  @doc """
  All facts about a model, which is loaded for it.
  """
  def info!(opts \\ @embedded) do
    :ok = ZeroShot.load(opts)
    {:ok, info} = opts |> Options.model!() |> Client.info(Model)
    info
  end

  defp encode(pixels, prompts, opts) do
    prepare = fn _info, _deadline -> {:ok, {pixels, prompts}} end

    with {:ok, {_info, embeddings}} <- Client.encode(Options.model!(opts), prepare, Model),
         do: {:ok, embeddings}
  end
end
