defmodule Image.ZeroShot.CLI.Search do
  @moduledoc false

  # Runs `mix zero_shot.search`. Returns instead of halting the VM.

  import Image.ZeroShot.CLI.Output

  alias Image.ZeroShot.{Error, Index}
  alias Image.ZeroShot.CLI.{Album, Gallery, Rows, SearchFlags, Thumbnails}
  alias Image.ZeroShot.Hub.Progress

  # Neighbours of a picture that are looked at for duplicates.
  @alike 100

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
    if File.regular?(path),
      do: :ok,
      else: {:error, "expected --like to be a picture; #{inspect(path)}: no such file"}
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
    {:ok, state} = Agent.start_link(fn -> shown end)

    try do
      result =
        Album.open(
          flags.folder,
          flags.index,
          flags.opts,
          &Agent.update(state, Image.ZeroShot.CLI.Search, :report, [&1])
        )

      if Agent.get(state, & &1.progress), do: clear(shown)
      result
    after
      Agent.stop(state)
    end
  end

  @doc false
  def report(shown, {:sentence, sentence}) do
    tell(sentence, shown.beside)
    shown
  end

  def report(shown, {:total, 0}), do: shown

  def report(shown, {:total, total}) do
    if shown.columns == nil, do: tell("embedding #{total} new pictures", shown.beside)
    %{shown | progress: Progress.new(:pictures, total), step: %{done: 0, failed: 0, total: total}}
  end

  def report(shown, {:picture, path, result}) do
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
    queries = Enum.map(ids, &{:id, &1})

    with {:ok, found} <-
           Index.nearest_many(index, queries,
             k: @alike,
             min_score: flags.min_score,
             timeout: :infinity
           ) do
      pairs =
        for {id, results} <- Enum.zip(ids, found),
            %{id: other, score: score} <- results,
            do: {id, other, score}

      {:ok, grouped(ids, pairs)}
    end
  end

  defp find(index, query, flags) do
    # A template is for texts.
    template = if match?({:text, _}, query), do: flags.template, else: []
    opts = [k: flags.top, min_score: flags.min_score] ++ template ++ flags.opts

    with {:ok, results} <- Index.nearest(index, query, opts),
         do: {:ok, Enum.map(results, &{nil, &1.id, &1.score})}
  end

  # Those that are alike, and those that these are alike to, are one group. The score of an entry is the
  # highest that it has with another one of its group.
  defp grouped(ids, pairs) do
    roots = Enum.reduce(pairs, %{}, fn {one, other, _score}, roots -> join(roots, one, other) end)

    scores =
      Enum.reduce(pairs, %{}, fn {id, _other, score}, all ->
        Map.update(all, id, score, &max(&1, score))
      end)

    ids
    |> Enum.filter(&is_map_key(scores, &1))
    |> Enum.group_by(&root(roots, &1))
    |> Map.values()
    |> Enum.sort()
    |> Enum.with_index(1)
    |> Enum.flat_map(fn {group, number} -> for id <- group, do: {number, id, scores[id]} end)
  end

  defp join(roots, one, other) do
    case {root(roots, one), root(roots, other)} do
      {root, root} -> roots
      {a, b} -> Map.put(roots, max(a, b), min(a, b))
    end
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
