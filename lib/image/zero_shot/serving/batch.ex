defmodule Image.ZeroShot.Serving.Batch do
  @moduledoc false

  # Requests that run together, and who gets which rows of the result. Plain data, no process.

  alias Image.ZeroShot.Serving.Request

  # Pictures and labels are the callers' own: no crash report shows them.
  @derive {Inspect, only: [:requests, :started]}
  @enforce_keys [:requests, :pixels, :prompts, :started]
  defstruct [:requests, :pixels, :prompts, :started]

  # `started` is in the native unit of monotonic time.
  @type t :: %__MODULE__{
          requests: [Request.t(), ...],
          pixels: [binary()],
          prompts: [String.t()],
          started: integer()
        }

  @typedoc """
  Unit vectors in native f32, row after row, and the indices of prompts that were cut.
  """
  @type embeddings :: {images :: binary(), texts :: binary(), truncated :: [non_neg_integer()]}

  @doc """
  One batch of all pictures and of all prompts, each prompt once however many ask for it.
  """
  @spec new([Request.t(), ...]) :: t()
  def new(requests) do
    %__MODULE__{
      requests: requests,
      pixels: Enum.flat_map(requests, & &1.pixels),
      prompts: requests |> Enum.flat_map(& &1.prompts) |> Enum.uniq(),
      started: System.monotonic_time()
    }
  end

  @doc """
  Divides the embeddings of a batch among its requests.
  """
  @spec divide(t(), embeddings()) :: [{Request.t(), embeddings()}]
  def divide(%__MODULE__{requests: [request]} = batch, embeddings)
      when length(request.prompts) == length(batch.prompts),
      do: [{request, embeddings}]

  def divide(batch, {images, texts, truncated}) do
    rows = Map.new(Enum.zip(batch.prompts, rows(texts, length(batch.prompts))))
    cut = MapSet.new(truncated, &Enum.at(batch.prompts, &1))
    picture_rows = rows(images, length(batch.pixels))

    {shares, []} =
      Enum.map_reduce(batch.requests, picture_rows, fn request, left ->
        {own, left} = Enum.split(left, length(request.pixels))
        {{request, share(request, own, rows, cut)}, left}
      end)

    shares
  end

  # Put together anew, so that no caller keeps the rows of all others alive.
  defp share(request, own, rows, cut) do
    images = IO.iodata_to_binary(own)
    texts = request.prompts |> Enum.map(&Map.fetch!(rows, &1)) |> IO.iodata_to_binary()
    truncated = for {prompt, i} <- Enum.with_index(request.prompts), prompt in cut, do: i
    {images, texts, truncated}
  end

  defp rows(_binary, 0), do: []

  defp rows(binary, count) do
    size = div(byte_size(binary), count)
    for <<row::binary-size(size) <- binary>>, do: row
  end
end
