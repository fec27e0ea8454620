defmodule Image.ZeroShot.CLI.Album do
  @moduledoc false

  # The pictures of a folder as an index that is kept beside them.
  #
  # An id is `{name in the folder, size, time of change}`: whatever changes is another entry, and what an entry
  # stands for is known without reading the picture.

  alias Image.ZeroShot
  alias Image.ZeroShot.{Error, Index}
  alias Image.ZeroShot.Call.OptionType
  alias Image.ZeroShot.CLI.Paths
  alias Image.ZeroShot.Serving.Identity

  @file_name ".zero_shot.index"
  # Entries are kept while others are still embedded, so that an interruption costs little.
  @part 1_000
  @max_size 10_000_000

  @typedoc "Called with a sentence, or with a picture and what came of it."
  @type report ::
          {:sentence, String.t()} | {:total, non_neg_integer()} | {:picture, Path.t(), term()}

  @doc """
  Returns the index of a folder, as the folder is now. It is kept in the file, in the folder with `nil`, and
  nowhere with `:memory`.
  """
  @spec open(Path.t(), Path.t() | :memory | nil, keyword(), (report() -> term())) ::
          {:ok, Index.t()} | {:error, Error.t()}
  def open(folder, file, opts, report) do
    with :ok <- ZeroShot.load(opts),
         {:ok, info} <- ZeroShot.info(opts) do
      model = info |> Identity.of() |> Map.take([:name, :commit, :dim])
      places = places(folder, file)
      index = load(places, model, report)
      refresh(index, folder, places, opts, report)
    end
  end

  @spec path(Path.t(), Index.id()) :: Path.t()
  def path(folder, {name, _size, _time}), do: Path.join(folder, name)

  defp places(_folder, :memory), do: []
  defp places(_folder, file) when is_binary(file), do: [file]

  # A folder that cannot be written has its index in the user's cache.
  defp places(folder, nil) do
    name = folder |> Path.expand() |> :erlang.md5() |> Base.encode16(case: :lower)
    {:ok, cache} = OptionType.cast(:cache_dir, nil)

    [Path.join(folder, @file_name)] ++
      if(cache, do: [Path.join([cache, "search", name <> ".index"])], else: [])
  end

  defp load(places, model, report) do
    place = Enum.find(places, &File.regular?/1)

    case place && Index.load(place, max_size: @max_size) do
      nil ->
        new()

      {:ok, index} ->
        if Index.info(index).model in [nil, model] do
          index
        else
          report.({:sentence, "#{inspect(place)} is of another model: building it again"})
          new()
        end

      {:error, error} ->
        report.({:sentence, "#{error.message}: building it again"})
        new()
    end
  end

  defp new, do: Index.new(storage: :f16, max_size: @max_size)

  defp refresh(index, folder, places, opts, report) do
    wanted = folder |> listed() |> Map.new()
    known = MapSet.new(Index.ids(index))
    loaded = Index.info(index).changes
    for id <- known, not is_map_key(wanted, id), do: :ok = Index.delete(index, id)
    new = wanted |> Map.keys() |> Enum.reject(&(&1 in known)) |> Enum.sort()
    report.({:total, length(new)})

    with {:ok, places} <- embed(index, new, wanted, places, opts, report) do
      if Index.info(index).changes != loaded, do: save(index, places, report)
      {:ok, index}
    end
  end

  defp listed(folder) do
    {paths, _faults} = Paths.expand([folder])

    for path <- paths, {:ok, stat} <- [File.stat(path, time: :posix)] do
      skipped = byte_size(Path.join(folder, "x")) - 1
      name = binary_part(path, skipped, byte_size(path) - skipped)
      {{name, stat.size, stat.mtime}, path}
    end
  end

  defp embed(index, new, wanted, places, opts, report) do
    new
    |> Enum.map(&{:path, wanted[&1]})
    |> ZeroShot.embed_many(opts)
    |> Stream.zip(new)
    |> Stream.chunk_every(@part)
    |> Enum.reduce_while({:ok, places}, fn part, {:ok, places} ->
      entries =
        for {{{:path, path}, result}, id} <- part,
            report.({:picture, path, result}),
            {:ok, embedding} <- [result],
            do: {id, embedding}

      with :ok <- Index.put_many(index, entries) do
        {:cont, {:ok, if(length(part) == @part, do: save(index, places, report), else: places)}}
      else
        error -> {:halt, error}
      end
    end)
  end

  # Returns the places that are left to be tried.
  defp save(_index, [], _report), do: []

  defp save(index, [place | others], report) do
    with :ok <- File.mkdir_p(Path.dirname(place)),
         :ok <- Index.save(index, place) do
      [place | others]
    else
      error ->
        report.(
          {:sentence, "the index cannot be kept: #{reason(place, error)}" <> instead(others)}
        )

        save(index, others, report)
    end
  end

  defp reason(_place, {:error, %Error{message: message}}), do: message
  defp reason(place, {:error, reason}), do: "#{inspect(place)}: #{:file.format_error(reason)}"

  defp instead([place | _]), do: "; it goes to #{inspect(place)} instead"
  defp instead([]), do: "; the next search embeds all pictures again"
end
