defmodule Image.ZeroShot.CLI.Album do
  @moduledoc false

  # The pictures of a folder as an index that is kept beside them.
  #
  # An id is `{name in the folder, size, time of change}`: a picture that changes is another entry, and an
  # entry can be compared with its file without reading the picture. Times are whole seconds, and two on
  # some file systems. So a picture that changed a moment ago may change again unnoticed: it has no time, and
  # the next search embeds it again.

  alias Image.ZeroShot
  alias Image.ZeroShot.{Error, Index}
  alias Image.ZeroShot.Call.OptionType
  alias Image.ZeroShot.CLI.Paths
  alias Image.ZeroShot.Serving.Identity

  @file_name ".zero_shot.index"
  # Every index begins with it, of whatever version.
  @magic "image_zero_shot index "
  # Entries are saved while others are still embedded, so that an interruption costs little.
  @part 1_000
  @max_size 10_000_000
  # A moment, in seconds.
  @recent 0..2
  # How long to wait while another search of this folder saves, at the end.
  @tries 50
  @pause_ms 200

  @typedoc "A sentence, the number of pictures to embed, or a picture and its result."
  @type event ::
          {:sentence, String.t()} | {:total, non_neg_integer()} | {:picture, Path.t(), term()}

  @typedoc "Called with each event, and with what it returned for the one before."
  @type report(told) :: (event(), told -> told)

  @doc """
  Returns the index of a folder, as the folder is now, and what `report` returned last. The index is kept in
  the file, in the folder with `nil`, and nowhere with `:memory`.
  """
  @spec open(Path.t(), Path.t() | :memory | nil, keyword(), told, report(told)) ::
          {:ok, Index.t(), told} | {:error, Error.t(), told}
        when told: term()
  def open(folder, file, opts, told, report) do
    with :ok <- ours(file),
         {:ok, wanted, unread} <- listed(folder),
         :ok <- ZeroShot.load(opts),
         {:ok, info} <- ZeroShot.info(opts) do
      model = info |> Identity.of() |> Map.take([:name, :commit, :dim])
      told = Enum.reduce(unread, told, &report.({:sentence, Paths.fault(&1)}, &2))
      {places, told} = places(folder, file, told, report)
      {index, told} = load(places, model, map_size(wanted), told, report)
      loaded = Index.info(index).changes
      new = update(index, folder, wanted, unread)
      told = report.({:total, length(new)}, told)
      embedded = embed(index, new, places, opts, {told, report})

      with {:ok, places, told} <- embedded do
        changed = Index.info(index).changes != loaded

        {_places, told} =
          if changed, do: save(index, places, @tries, told, report), else: {[], told}

        {:ok, index, told}
      end
    else
      {:error, error} -> {:error, error, told}
    end
  end

  @spec path(Path.t(), Index.id()) :: Path.t()
  def path(folder, {name, _size, _time}), do: Path.join(folder, name)

  # Other programs have files with such names too, and a slip must not replace one.
  defp ours(file) when is_binary(file) do
    with true <- File.regular?(file),
         {:ok, start} <-
           File.open(file, [:read, :raw, :binary], &:file.read(&1, byte_size(@magic))),
         true <- start not in [:eof, {:ok, @magic}] do
      Error.error(
        :invalid_index_file,
        "#{inspect(file)}: is a file of another program, not an index; name another file, or remove it"
      )
    else
      # It is loaded, or the failure is reported, in its turn.
      _ours_or_none -> :ok
    end
  end

  defp ours(_none), do: :ok

  defp places(_folder, :memory, told, _report), do: {[], told}
  defp places(_folder, file, told, _report) when is_binary(file), do: {[file], told}

  # A folder that cannot be written has its index in the user's cache. So has one with a link where the
  # index belongs: in a stranger's folder it may lead to any file of the user.
  defp places(folder, nil, told, report) do
    place = Path.join(folder, @file_name)
    name = folder |> Path.expand() |> :erlang.md5() |> Base.encode16(case: :lower)
    {:ok, cache} = OptionType.cast(:cache_dir, nil)
    cached = if cache, do: [Path.join([cache, "search", name <> ".index"])], else: []

    case File.lstat(place) do
      {:ok, %{type: :symlink}} ->
        sentence = "#{inspect(place)}: is a link, which is not followed" <> instead(cached)
        {cached, report.({:sentence, sentence}, told)}

      _none_or_a_file ->
        {[place | cached], told}
    end
  end

  # The last one that was written: a folder may have become unwritable since. A stranger's file with far more
  # entries than there are pictures is not worth its memory.
  defp load(places, model, count, told, report) do
    place = places |> Enum.filter(&File.regular?/1) |> Enum.max_by(&changed/1, fn -> nil end)

    case place && Index.load(place, max_size: 4 * count + @part) do
      nil ->
        {new(), told}

      {:ok, index} ->
        if Index.info(index).model in [nil, model],
          do: {index, told},
          else: again("#{inspect(place)} is of another model", told, report)

      {:error, error} ->
        again(error.message, told, report)
    end
  end

  defp changed(place) do
    case File.stat(place, time: :posix) do
      {:ok, %{mtime: time}} -> time
      {:error, _gone} -> 0
    end
  end

  defp again(why, told, report),
    do: {new(), report.({:sentence, why <> ": building it again"}, told)}

  defp new, do: Index.new(storage: :f16, max_size: @max_size)

  # Deletes entries whose files are gone, and returns files that are new. Entries in folders that cannot be read
  # stay: their files may be there.
  defp update(index, folder, wanted, unread) do
    known = MapSet.new(Index.ids(index))
    hidden = for {unreadable, _reason} <- unread, do: relative(folder, unreadable) <> "/"

    for {name, _size, _time} = id <- known,
        not is_map_key(wanted, id) and not String.starts_with?(name, hidden),
        do: :ok = Index.delete(index, id)

    wanted
    |> Enum.reject(fn {{_name, _size, time} = id, _path} -> time != nil and id in known end)
    |> Enum.sort()
  end

  # The files by their ids, at least one.
  defp listed(folder) do
    {paths, unread} = Paths.walk(folder)
    now = System.os_time(:second)

    wanted =
      for path <- paths, {:ok, stat} <- [File.stat(path, time: :posix)], into: %{} do
        time = if (now - stat.mtime) not in @recent, do: stat.mtime
        {{relative(folder, path), stat.size, time}, path}
      end

    if wanted == %{},
      do: Error.error(:not_found, nothing(folder, unread)),
      else: {:ok, wanted, unread}
  end

  defp nothing(folder, []), do: Paths.empty(folder)
  defp nothing(_folder, [unread | _]), do: Paths.fault(unread)

  # Names are bytes.
  defp relative(folder, path) do
    skipped = byte_size(Path.join(folder, "x")) - 1
    binary_part(path, skipped, byte_size(path) - skipped)
  end

  defp embed(index, new, places, opts, {told, report}) do
    new
    |> Enum.map(fn {_id, path} -> {:path, path} end)
    |> ZeroShot.embed_many(opts)
    |> Stream.zip(new)
    |> Stream.chunk_every(@part)
    |> Enum.reduce_while({:ok, places, told}, fn part, {:ok, places, told} ->
      told =
        Enum.reduce(part, told, fn {{{:path, path}, result}, _new}, told ->
          report.({:picture, path, result}, told)
        end)

      entries = for {{_picture, {:ok, embedding}}, {id, _path}} <- part, do: {id, embedding}

      case Index.put_many(index, entries) do
        :ok when length(part) == @part ->
          {places, told} = save(index, places, 1, told, report)
          {:cont, {:ok, places, told}}

        :ok ->
          {:cont, {:ok, places, told}}

        {:error, error} ->
          {:halt, {:error, error, told}}
      end
    end)
  end

  # Returns the places that are left to be tried.
  defp save(_index, [], _tries, told, _report), do: {[], told}

  defp save(index, [place | others] = places, tries, told, report) do
    with :ok <- directory(place),
         :ok <- Index.save(index, place) do
      {places, told}
    else
      # Another search of this folder saves, and has what this one has.
      {:error, %Error{reason: :overloaded}} when tries > 1 ->
        Process.sleep(@pause_ms)
        save(index, places, tries - 1, told, report)

      {:error, %Error{reason: :overloaded}} ->
        {places, told}

      error ->
        sentence = "the index cannot be kept: #{reason(place, error)}" <> instead(others)
        save(index, others, tries, report.({:sentence, sentence}, told), report)
    end
  end

  # A folder that has vanished does not come back.
  defp directory(place) do
    if Path.basename(place) == @file_name, do: :ok, else: File.mkdir_p(Path.dirname(place))
  end

  defp reason(_place, {:error, %Error{message: message}}), do: message
  defp reason(place, {:error, reason}), do: "#{inspect(place)}: #{:file.format_error(reason)}"

  defp instead([place | _]), do: "; it goes to #{inspect(place)} instead"
  defp instead([]), do: "; the next search embeds all pictures again"
end
