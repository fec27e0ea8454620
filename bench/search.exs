# Exact search beside numpy, faiss and usearch, and beside reading the memory once.
#
#     PYTHON=python mix run bench/search.exs [ROUNDS] [COUNT ...]
#
# Every round gives one query to each contender, in an order that changes, all on all cores; then 64 queries
# at once. Medians in milliseconds. Writes bench/search.svg where several counts are given.

Code.require_file("chart.exs", __DIR__)

defmodule Bench.Search do
  @moduledoc false

  alias Image.ZeroShot.{Embedding, Index}

  @dim 512
  @storages [:f32, :f16, :i8]
  @peers ~w(numpy faiss usearch read)

  def main(args) do
    {rounds, counts} =
      case Enum.map(args, &String.to_integer/1) do
        [] -> {15, [100_000]}
        [rounds] -> {rounds, [100_000]}
        [rounds | counts] -> {rounds, counts}
      end

    tables = Enum.map(counts, &{&1, measure(&1, rounds)})
    for {count, {one, many, recall}} <- tables, do: print(count, one, many, recall)
    if length(counts) > 1, do: File.write!("bench/search.svg", svg(tables))
  end

  defp measure(count, rounds) do
    folder = Path.join(System.tmp_dir!(), "search-#{System.pid()}")
    File.mkdir_p!(folder)

    try do
      port = peer(folder, count)
      indexes = for storage <- @storages, do: {"#{storage}", fill(folder, storage)}
      queries = queries(folder)
      ask = fn {who, index}, at, together -> run(who, index, queries, at, together, port) end
      all = indexes ++ Enum.map(@peers, &{&1, nil})
      for contender <- all, do: ask.(contender, 0, 1)

      one =
        for round <- 1..rounds, contender <- Enum.shuffle(all), reduce: %{} do
          times -> note(times, contender, round, ask.(contender, round, 1))
        end

      many =
        for round <- 1..max(div(rounds, 3), 1),
            contender <- Enum.shuffle(all -- [{"read", nil}]),
            reduce: %{} do
          times -> note(times, contender, round, ask.(contender, 64 * round, 64))
        end

      Port.close(port)
      {one, many, recall(one)}
    after
      File.rm_rf!(folder)
    end
  end

  defp note(times, {who, _index}, round, {time, ids}),
    do: Map.update(times, who, [{round, time, ids}], &[{round, time, ids} | &1])

  defp run(_who, %Index{} = index, queries, at, together, _port) do
    some = for i <- at..(at + together - 1), do: Enum.at(queries, rem(i, length(queries)))

    {time, {:ok, found}} =
      :timer.tc(fn -> Index.nearest_many(index, some, k: 10, timeout: :infinity) end)

    {time / 1000, found |> List.last() |> Enum.map(& &1.id)}
  end

  defp run(who, nil, _queries, at, together, port) do
    Port.command(port, "#{who} #{at} #{together}\n")
    [time, ids] = port |> line() |> String.split(" ")
    ids = if ids == "-", do: [], else: ids |> String.split(",") |> Enum.map(&String.to_integer/1)
    {time |> Float.parse() |> elem(0), ids}
  end

  # How many of the ten that numpy finds an index finds.
  defp recall(one) do
    truth = Map.new(one["numpy"], fn {round, _time, ids} -> {round, ids} end)

    for storage <- @storages do
      found = for {round, _time, ids} <- one["#{storage}"], id <- ids, do: id in truth[round]
      {storage, Enum.count(found, & &1) / length(found)}
    end
  end

  defp fill(folder, storage) do
    index = Index.new(storage: storage, max_size: 10_000_000)

    entries =
      folder
      |> Path.join("rows")
      |> File.stream!([], 4 * @dim)
      |> Stream.with_index()
      |> Stream.map(fn {row, id} -> {id, embedding(row)} end)

    :ok = Index.put_many(index, entries)
    index
  end

  defp queries(folder) do
    for <<row::binary-size(4 * @dim) <- File.read!(Path.join(folder, "queries"))>>,
      do: embedding(row)
  end

  defp embedding(row), do: %Embedding{vector: row, model: "m", commit: nil, kind: :picture}

  defp peer(folder, count) do
    python = System.find_executable(System.get_env("PYTHON") || "python3")
    arguments = [Path.join(__DIR__, "search.py"), folder, "#{count}", "#{@dim}"]
    options = [:binary, :exit_status, line: 1_000, args: arguments]
    port = Port.open({:spawn_executable, python}, options)
    "ready" = line(port)
    port
  end

  # What else a library prints is not an answer.
  defp line(port) do
    receive do
      {^port, {:data, {:eol, line}}} ->
        if line =~ ~r/^(ready|[\d.]+ \S+)$/, do: line, else: line(port)

      {^port, {:exit_status, status}} ->
        Mix.raise("the peers ended with status #{status}")
    after
      600_000 -> Mix.raise("the peers do not answer")
    end
  end

  defp print(count, one, many, recall) do
    names = Enum.map(@storages, &to_string/1) ++ @peers
    {load, 0} = System.cmd("cat", ["/proc/loadavg"])
    IO.puts("\n#{count} x #{@dim}, k = 10, load #{String.trim(load)}\n")

    IO.puts(
      "| queries | #{Enum.join(names, " | ")} |\n| --- |#{String.duplicate(" --- |", length(names))}"
    )

    for {what, times} <- [{"1, median", one}, {"64 at once, median", many}],
        do: row(what, names, times, &median/1)

    row("1, fastest", names, one, &Enum.min/1)
    row("64 at once, fastest", names, many, &Enum.min/1)
    IO.puts("\nrecall@10 against numpy: #{inspect(recall)}")
  end

  defp row(what, names, times, summary) do
    cells =
      for name <- names, do: if(times[name], do: shown(summary.(times(times, name))), else: "")

    IO.puts("| #{what} | #{Enum.join(cells, " | ")} |")
  end

  defp times(times, name), do: Enum.map(times[name], &elem(&1, 1))
  defp shown(time), do: :erlang.float_to_binary(time / 1, decimals: 2)
  defp median(values), do: values |> Enum.sort() |> Enum.at(div(length(values), 2))

  defp svg(tables) do
    peers = ~w(numpy faiss usearch)

    series =
      for name <- Enum.map(@storages, &to_string/1) ++ peers do
        {name, for({count, {one, _, _}} <- tables, do: {count, median(times(one, name))})}
      end

    title = "Time of one query, by the number of entries"
    axis = "entries of #{@dim} dimensions; k = 10, median"
    Bench.Chart.lines(title, axis, "ms", series, peers)
  end
end

Bench.Search.main(System.argv())
