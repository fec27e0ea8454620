defmodule Image.ZeroShot.CLI.Search do
  @moduledoc false

  # Runs `mix zero_shot.search`. Returns instead of halting the VM.

  import Image.ZeroShot.CLI.Output

  alias Image.ZeroShot.{Error, Index}
  alias Image.ZeroShot.CLI.{Album, Gallery, Rows, SearchFlags, Thumbnails}
  alias Image.ZeroShot.Hub.Progress

  # Neighbours of a picture that are looked at for duplicates.
  @alike 100

  # Pictures whose neighbours are in memory.
  @part 1_000

  @type found :: %{group: pos_integer() | nil, path: Path.t(), score: float()}

  @spec run([String.t()], keyword()) :: :ok | {:error, String.t()}
  def run(argv, output \\ []) do
    with {:ok, flags} <- SearchFlags.parse(argv),
         :ok <- folder(flags.folder),
         :ok <- like(flags.query) do
      in_bytes(fn -> search(flags, output) end)
    else
      {:error, message} -> {:error, one_line(message)}
    end
  rescue
    error in [ArgumentError, Error] -> {:error, error |> Exception.message() |> one_line()}
  end

  defp folder(folder) do
    if File.dir?(folder),
      do: :ok,
      else: {:error, "expected a folder with pictures, got: #{inspect(folder)}"}
  end

  # Before all pictures of a folder are embedded.
  defp like({:path, path}) do
    case File.stat(path) do
      {:ok, %{type: :regular}} ->
        :ok

      {:ok, _other} ->
        {:error, "expected --like to be a picture; #{inspect(path)}: is not a file"}

      {:error, reason} ->
        {:error, "expected --like to be a picture; #{Error.file(path, reason).message}"}
    end
  end

  defp like(_text_or_duplicates), do: :ok

  defp search(flags, output) do
    with {:ok, index} <- open(flags, output),
         {:ok, found} <- find(index, flags.query, flags) do
      found =
        for {group, id, score} <- found,
            do: %{group: group, path: Album.path(flags.folder, id), score: score}

      IO.binwrite(rows(flags.format, flags.query, found))
      if flags.html, do: write(flags, found), else: :ok
    else
      {:error, error} -> {:error, one_line(error.message)}
    end
  end

  @doc """
  Opens the index of a folder, and shows the progress of what is new in it.
  """
  @spec open(%{folder: Path.t(), index: Path.t() | :memory | nil, opts: keyword()}, keyword()) ::
          {:ok, Index.t()} | {:error, Error.t()}
  def open(flags, output) do
    beside = Keyword.get(output, :beside, :stderr)
    shown = %{columns: output[:columns], beside: beside, progress: nil, step: nil}

    case Album.open(flags.folder, flags.index, flags.opts, shown, &report/2) do
      {:ok, index, shown} ->
        if shown.progress, do: clear(shown)
        {:ok, index}

      {:error, error, shown} ->
        if shown.progress, do: clear(shown)
        {:error, error}
    end
  end

  defp report({:sentence, sentence}, shown) do
    if shown.progress, do: clear(shown)
    tell(sentence, shown.beside)
    shown
  end

  defp report({:total, 0}, shown), do: shown

  defp report({:total, total}, shown) do
    if shown.columns == nil, do: tell("embedding #{total} new pictures", shown.beside)
    %{shown | progress: Progress.new(:pictures, total), step: %{done: 0, failed: 0, total: total}}
  end

  defp report({:picture, path, result}, shown) do
    clear(shown)
    with {:error, error} <- result, do: path |> named(error) |> tell(shown.beside)
    failed = if match?({:error, _}, result), do: 1, else: 0
    step = %{shown.step | done: shown.step.done + 1, failed: shown.step.failed + failed}
    shown = %{shown | step: step, progress: Progress.update(shown.progress, step, now())}
    draw(shown)
    shown
  end

  defp find(index, :duplicates, flags) do
    ids = index |> Index.ids() |> Enum.sort()
    opts = [k: @alike, min_score: flags.min_score, timeout: :infinity]

    # In parts, because a folder of copies has a hundred neighbours for each picture.
    ids
    |> Enum.chunk_every(@part)
    |> Enum.reduce_while({:ok, {%{}, %{}}}, fn part, {:ok, groups} ->
      case Index.nearest_many(index, Enum.map(part, &{:id, &1}), opts) do
        {:ok, found} -> {:cont, {:ok, Enum.zip_reduce(part, found, groups, &group/3)}}
        {:error, error} -> {:halt, {:error, error}}
      end
    end)
    |> then(fn result -> with {:ok, groups} <- result, do: {:ok, numbered(ids, groups)} end)
  end

  defp find(index, query, flags) do
    # A template is for texts.
    template = if match?({:text, _}, query), do: flags.template, else: []
    opts = [k: flags.top, min_score: flags.min_score, only: other(query, flags.folder)]
    opts = opts ++ template ++ flags.opts

    with {:ok, results} <- Index.nearest(index, query, opts),
         do: {:ok, Enum.map(results, &{nil, &1.id, &1.score})}
  end

  # A picture is not like itself, by whatever name it is given.
  defp other({:path, like}, folder) do
    itself = file(like)
    &(file(Album.path(folder, &1)) != itself)
  end

  defp other(_text, _folder), do: nil

  defp file(path) do
    case File.stat(path) do
      {:ok, %{inode: inode, major_device: device}} when inode > 0 -> {device, inode}
      _no_inodes -> Path.expand(path)
    end
  end

  # Pictures that are alike, and those that these are alike to, are one group. The score of an entry is its
  # best.
  defp group(_id, [], groups), do: groups

  defp group(id, [%{score: best} | _] = results, {roots, scores}) do
    roots = Enum.reduce(results, roots, &join(&2, id, &1.id))
    {roots, Map.put(scores, id, best)}
  end

  defp numbered(ids, {roots, scores}) do
    ids
    |> Enum.filter(&is_map_key(scores, &1))
    |> Enum.group_by(&root(roots, &1))
    |> Map.values()
    |> Enum.sort()
    |> Enum.with_index(1)
    |> Enum.flat_map(fn {group, number} -> for id <- group, do: {number, id, scores[id]} end)
  end

  # The first one of a group is its root. The shorter the way to it, the better.
  defp join(roots, one, other) do
    {a, b} = {root(roots, one), root(roots, other)}
    first = min(a, b)

    for id <- [one, other, a, b], id != first, into: roots, do: {id, first}
  end

  defp root(roots, id) do
    case roots do
      %{^id => parent} -> root(roots, parent)
      _own -> id
    end
  end

  @spec rows(:table | :json | :csv, term(), [found()]) :: iodata()
  def rows(:csv, :duplicates, found) do
    [
      Rows.line(~w(group path score))
      | Enum.map(found, &Rows.line(["#{&1.group}", &1.path, shown(&1)]))
    ]
  end

  def rows(:csv, _query, found),
    do: [Rows.line(~w(path score)) | Enum.map(found, &Rows.line([&1.path, shown(&1)]))]

  def rows(:json, _query, found) do
    for one <- found do
      group = if one.group, do: "\"group\":#{one.group},", else: ""
      ["{", group, Rows.members(one.path), ",\"score\":", shown(one), "}\n"]
    end
  end

  def rows(:table, _query, found) do
    found
    |> Enum.chunk_by(& &1.group)
    |> Enum.map(fn group ->
      for one <- group,
          do: [one.score |> round4() |> String.pad_leading(7), "  ", Rows.plain(one.path), "\n"]
    end)
    |> Enum.intersperse("\n")
  end

  defp shown(one), do: Float.to_string(one.score)
  defp round4(score), do: :erlang.float_to_binary(score, decimals: 4)

  defp write(flags, found) do
    page = Gallery.start(flags.html, title(flags))

    try do
      found
      |> Enum.map(&{{:path, &1.path}, &1})
      |> Thumbnails.add()
      |> Enum.each(fn {{:path, path}, one, jpeg} ->
        label = if one.group, do: "group #{one.group}", else: sought(flags)
        Gallery.add(page, path, jpeg, {:ok, [%{label: label, score: one.score}]})
      end)

      Gallery.finish(page)
    after
      Gallery.abandon(page)
    end
  end

  defp title(%{query: :duplicates, folder: folder}), do: "Duplicates in #{folder}"
  defp title(flags), do: "#{sought(flags)} in #{flags.folder}"

  defp sought(%{query: {:text, text}}), do: text
  defp sought(%{query: {:path, path}}), do: "like " <> Path.basename(path)
end
