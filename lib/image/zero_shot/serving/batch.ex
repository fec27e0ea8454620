defmodule Image.ZeroShot.Serving.Batch do
  @moduledoc false

  # Requests that run together, and who gets which rows of the result. Plain data, no process.

  alias Image.ZeroShot.Serving.{Request, TextCache}

  # Pictures and labels are the callers' own: no crash report shows them.
  @derive {Inspect, only: [:requests, :started]}
  @enforce_keys [:requests, :pixels, :prompts, :kind, :started]
  defstruct [:requests, :pixels, :prompts, :kind, :started]

  # `started` is in the native unit of monotonic time.
  @type t :: %__MODULE__{
          requests: [Request.t(), ...],
          pixels: [binary()],
          prompts: [String.t()],
          kind: Request.kind(),
          started: integer()
        }

  @typedoc """
  Unit vectors in native f32, row after row, and the indices of prompts that were cut. In a batch of the kind
  `:parts` several rows of a picture sum to its vector.
  """
  @type embeddings :: {images :: binary(), texts :: binary(), truncated :: [non_neg_integer()]}

  @doc """
  One batch of all pictures and of all prompts, each prompt once however many ask for it. All requests are
  of one kind, since those that are not `:embed` are alone.
  """
  @spec new([Request.t(), ...]) :: t()
  def new(requests) do
    %__MODULE__{
      requests: requests,
      pixels: Enum.flat_map(requests, & &1.pixels),
      prompts: requests |> Enum.flat_map(& &1.prompts) |> Enum.uniq(),
      kind: hd(requests).kind,
      started: System.monotonic_time()
    }
  end

  @doc """
  How much work a batch is, in prompts.
  """
  @spec work(t()) :: pos_integer()
  def work(batch), do: Request.work(batch)

  @doc """
  Divides the embeddings of a batch among its requests.
  """
  @spec divide(t(), embeddings()) :: [{Request.t(), embeddings()}]
  def divide(%__MODULE__{requests: [request]} = batch, embeddings)
      when length(request.prompts) == length(batch.prompts),
      do: [{request, embeddings}]

  def divide(batch, {images, texts, truncated}) do
    texts = Map.new(rows(batch.prompts, texts, truncated))
    picture_rows = split(images, length(batch.pixels))

    {shares, []} =
      Enum.map_reduce(batch.requests, picture_rows, fn request, left ->
        {own, left} = Enum.split(left, length(request.pixels))
        {{request, share(request, own, texts)}, left}
      end)

    shares
  end

  # Put together anew, so that no caller keeps the rows of all others alive.
  defp share(request, images, texts) do
    rows = Enum.map(request.prompts, &Map.fetch!(texts, &1))

    {
      IO.iodata_to_binary(images),
      for({row, _cut} <- rows, into: <<>>, do: row),
      for({{_row, true}, i} <- Enum.with_index(rows), do: i)
    }
  end

  @doc """
  Each prompt with its row and whether it was cut.
  """
  @spec rows([String.t()], binary(), [non_neg_integer()]) :: [{String.t(), TextCache.row()}]
  def rows(prompts, texts, truncated) do
    cut = MapSet.new(truncated)

    for {{prompt, row}, i} <-
          prompts |> Enum.zip(split(texts, length(prompts))) |> Enum.with_index(),
        do: {prompt, {row, i in cut}}
  end

  defp split(_binary, 0), do: []

  defp split(binary, count) do
    size = div(byte_size(binary), count)
    for i <- 0..(count - 1), do: binary_part(binary, i * size, size)
  end
end
