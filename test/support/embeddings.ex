defmodule Image.ZeroShot.Test.Embeddings do
  @moduledoc false

  # Embeddings as the public verbs get them, through a serving.

  alias Image.ZeroShot
  alias Image.ZeroShot.Call.Options
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
    {:ok, info} = opts |> Options.model!() |> Client.info()
    info
  end

  defp encode(pixels, prompts, opts) do
    needs = %{pictures: length(pixels), decoded_here: 0, prompts: prompts, parts: 1}

    with {:ok, lease} <- opts |> Options.model!() |> Client.checkout(needs) do
      try do
        Client.run(lease, pixels, prompts)
      after
        Client.checkin(lease)
      end
    end
  end
end
