defmodule Image.ZeroShot.CLI.Thumbnails do
  @moduledoc false

  # Small pictures for a page, as JPEG: the part of each that the model sees, decoded by the same decoder.

  alias Image.ZeroShot.{Error, Native, Picture}
  alias Image.ZeroShot.Call.{Deadline, Options, ParallelMap}
  alias Image.ZeroShot.Picture.Preprocess

  @side 96

  # The decode threads work on so many at a time, and on those of the model between them.
  @ahead 2

  # A picture waits for those before it; none of a page waits for long.
  @timeout_ms 60_000

  @doc """
  Adds a thumbnail to each result of a stream, in order: `{picture, result, jpeg}`, with `nil` where there is
  none.
  """
  @spec add(Enumerable.t()) :: Enumerable.t()
  def add(results) do
    opts = Options.embed!(decode: :fast)

    start = fn ->
      {@ahead * System.schedulers_online(), fn {picture, _result} -> jpeg(picture, opts) end}
    end

    results
    |> ParallelMap.map(start)
    |> Stream.map(fn
      {{picture, result}, {:ok, {:ok, jpeg}}} -> {picture, result, jpeg}
      {{picture, result}, _none} -> {picture, result, nil}
    end)
  end

  @doc """
  The thumbnail of one picture, a square of so many pixels.
  """
  @spec jpeg(term(), Options.t(), pos_integer()) :: {:ok, binary()} | {:error, Error.t()}
  def jpeg(picture, opts, side \\ @side) do
    recipe = %{resize: {:shortest_edge, side}, crop: {side, side}, filter: :bicubic}

    with {:ok, %{source: source}} <- Picture.open(picture, opts),
         deadline = Deadline.new(@timeout_ms),
         {:ok, pixels} <- Preprocess.run(source, recipe, Options.picture(opts), deadline),
         do: pixels |> Native.thumbnail(side) |> Error.from_native()
  end
end
