defmodule Image.ZeroShot.Call.Vectors do
  @moduledoc false

  # From pictures and prompts to unit vectors, with a lease. A picture that is an embedding already
  # is not run again.

  require Logger

  alias Image.ZeroShot.{Embedding, Error, Picture}
  alias Image.ZeroShot.Call.{Options, ParallelMap}
  alias Image.ZeroShot.Native.Floats
  alias Image.ZeroShot.Serving.{Admission, Client, Identity, Lease}

  @typedoc "A picture, and how errors call it if it is one of several."
  @type named(picture) :: {String.t() | nil, picture}

  @type opened :: named(Picture.t() | Embedding.t())

  @doc """
  Finds the bytes or the pixels of pictures, without decoding anything.
  """
  @spec open([named(term())], Options.t()) :: {:ok, [opened()]} | {:error, Error.t()}
  def open(pictures, opts) do
    each(pictures, fn
      {name, %Embedding{} = embedding} ->
        {:ok, {name, embedding}}

      {name, picture} ->
        with {:ok, opened} <- Picture.open(picture, opts), do: {:ok, {name, opened}}
    end)
  end

  @doc """
  What a call with these pictures and prompts asks of a serving.
  """
  @spec needs([named(term())], [String.t()], pos_integer()) :: Admission.needs()
  def needs(pictures, prompts, parts) do
    count = Enum.count(pictures, &(not match?({_name, %Embedding{}}, &1)))
    %{pictures: count, decoded_here: count, prompts: prompts, parts: parts}
  end

  @doc """
  Returns an embedding for each picture.
  """
  @spec embed([named(term())], Options.t()) :: {:ok, [Embedding.t()]} | {:error, Error.t()}
  def embed(pictures, opts) do
    with {:ok, pictures} <- open(pictures, opts),
         {:ok, lease} <- Client.checkout(opts, needs(pictures, [], 1)) do
      try do
        model = Identity.of(lease.info)

        with {:ok, rows} <- rows(lease, pictures, opts),
             do:
               {:ok, pictures |> Enum.zip_with(split(rows, model.dim), &embedding(&1, &2, model))}
      after
        Client.checkin(lease)
      end
    end
  end

  defp embedding({_name, %Embedding{} = embedding}, _row, _model), do: embedding
  defp embedding({_name, _picture}, row, model), do: Embedding.new(row, model, :picture)

  @doc """
  Returns the rows of any number of pictures, one after the other.
  """
  @spec rows(Lease.t(), [opened()], Options.t()) :: {:ok, binary()} | {:error, Error.t()}
  def rows(lease, pictures, opts) do
    parts = Enum.chunk_every(pictures, lease.info.max_batch)

    with {:ok, parts} <- each(parts, &run(lease, &1, [], opts)),
         do: {:ok, parts |> Enum.map(& &1.images) |> IO.iodata_to_binary()}
  end

  @doc """
  Runs pictures and prompts as one request. Logs which prompts were cut, the first time.
  """
  @spec run(Lease.t(), [opened()], [String.t()], Options.t()) ::
          {:ok, Client.embeddings()} | {:error, Error.t()}
  def run(lease, pictures, prompts, opts) do
    with {:ok, ready} <- pixels(pictures, lease, opts),
         {:ok, embeddings} <- Client.run(lease, Enum.filter(ready, &is_binary/1), prompts) do
      :ok = prompts |> cut(embeddings) |> warn(prompts, lease)

      {:ok, %{embeddings | images: merge(ready, embeddings.images, lease.info.dim)}}
    end
  end

  @doc """
  Splits rows of native floats.
  """
  @spec split(binary(), pos_integer()) :: [binary()]
  def split(<<>>, _dim), do: []

  def split(rows, dim) do
    size = 4 * dim
    for i <- 0..(div(byte_size(rows), size) - 1), do: binary_part(rows, i * size, size)
  end

  @doc """
  Calls a function for each element until it fails.
  """
  @spec each([element], (element -> {:ok, value} | {:error, Error.t()})) ::
          {:ok, [value]} | {:error, Error.t()}
        when element: term(), value: term()
  def each(elements, function) do
    elements
    |> Enum.reduce_while([], fn element, done ->
      case function.(element) do
        {:ok, value} -> {:cont, [value | done]}
        {:error, error} -> {:halt, {:error, named(element, error)}}
      end
    end)
    |> case do
      {:error, error} -> {:error, error}
      done -> {:ok, Enum.reverse(done)}
    end
  end

  defp named({name, _picture}, error) when is_binary(name), do: Error.prefix(error, name)
  defp named(_element, error), do: error

  # One picture is decoded by the caller, who sees a serving that terminates. Several are on their way
  # at the same time.
  defp pixels([one], lease, opts), do: each([one], &pixels_of(&1, lease, opts))

  defp pixels(pictures, lease, opts) do
    work = fn {picture, _index} -> pixels_of(picture, lease, opts) end

    pictures
    |> Enum.with_index()
    |> ParallelMap.map(fn -> {System.schedulers_online() + 1, work} end)
    |> each_outcome()
  end

  defp each_outcome(outcomes) do
    Enum.reduce_while(outcomes, {:ok, []}, fn
      {_, {:ok, {:ok, pixels}}}, {:ok, done} ->
        {:cont, {:ok, [pixels | done]}}

      {{picture, _index}, {:ok, {:error, error}}}, _done ->
        {:halt, {:error, named(picture, error)}}

      {_, {:failed, {kind, reason, stacktrace}}}, _done ->
        :erlang.raise(kind, reason, stacktrace)
    end)
    |> then(fn result -> with {:ok, done} <- result, do: {:ok, Enum.reverse(done)} end)
  end

  defp pixels_of({_name, %Embedding{} = embedding}, lease, _opts) do
    with :ok <- Embedding.check_model(embedding, Identity.of(lease.info)), do: {:ok, embedding}
  end

  defp pixels_of({_name, picture}, lease, opts), do: Picture.pixels(picture, lease, opts)

  defp merge(ready, images, dim) do
    if Enum.all?(ready, &is_binary/1), do: images, else: merged(ready, split(images, dim))
  end

  defp merged(ready, rows) do
    {all, []} =
      Enum.map_reduce(ready, rows, fn
        %Embedding{vector: vector}, rows -> {Floats.swap(vector), rows}
        _pixels, [row | rows] -> {row, rows}
      end)

    IO.iodata_to_binary(all)
  end

  @doc """
  The prompts that were cut, if that is news.
  """
  @spec cut([String.t()], Client.embeddings()) :: [String.t()]
  def cut(_prompts, %{news: false}), do: []

  def cut(prompts, %{truncated: indices}) do
    indices = MapSet.new(indices)
    for {prompt, i} <- Enum.with_index(prompts), i in indices, do: prompt
  end

  @doc """
  Logs which of these prompts were cut.
  """
  @spec warn([String.t()], [String.t()], Lease.t()) :: :ok
  def warn([], _prompts, _lease), do: :ok

  def warn(cut, prompts, lease) do
    names = cut |> Enum.take(5) |> Enum.map_join(", ", &brief/1)
    more = if length(cut) > 5, do: ", …", else: ""

    Logger.warning(
      "#{length(cut)} of #{length(prompts)} prompts are longer than the " <>
        "#{lease.info.context_length} tokens that the model reads, and were cut: #{names}#{more}"
    )
  end

  defp brief(text), do: inspect(text, binaries: :as_strings, printable_limit: 40)
end
