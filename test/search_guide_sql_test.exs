defmodule Image.ZeroShot.SearchGuideSqlTest do
  # The SQL of the guide, as it stands there, on a real PostgreSQL with pgvector. Vectors are loaded by
  # the guide's own module, and compared with the exact order.
  use ExUnit.Case, async: false

  alias Image.ZeroShot.{Embedding, Index}
  alias Image.ZeroShot.Test.{Markdown, Postgres}

  @moduletag :postgres

  @guide "guides/search.md"
  @copy MyApp.EmbeddingCopy
  @compile {:no_warn_undefined, @copy}

  @old [
    model: "openai/clip-vit-base-patch32",
    commit: "3d74acf9a28c67741b2f4f2ea7635f0aaf6f0268"
  ]
  @next [
    model: "openai/clip-vit-large-patch14",
    commit: "32bd64288804d66eefd0ccbe215aa642df71cc41"
  ]
  @rows 3_000
  @albums 100

  # One server, and the blocks in the order of the guide up to the index.
  setup_all do
    text = File.read!(@guide)

    {_line, code} =
      text |> Markdown.blocks("elixir") |> Enum.find(&(elem(&1, 1) =~ inspect(@copy)))

    Code.compile_string(code, @guide)

    server = Postgres.start!(600)

    on_exit(fn ->
      Postgres.stop(server)
      :code.purge(@copy)
      :code.delete(@copy)
    end)

    sql =
      for {_line, code} <- Markdown.blocks(text, "sql"), into: %{} do
        [_, name] = Regex.run(~r/\A-- (.+)\n/, code)
        {name, code}
      end

    Postgres.query!(server, sql["tables"])

    Postgres.query!(server, """
    INSERT INTO photos (path, album_id) SELECT i || '.jpg', i % #{@albums} FROM generate_series(1, #{@rows}) i
    """)

    :rand.seed(:exsss, 7)
    entries = entries(@old, 512, @rows)
    copy!(server, entries)
    Postgres.query!(server, [sql["index"], sql["halfvec index"], "ANALYZE;"])
    %{server: server, sql: sql, entries: entries}
  end

  setup do
    :rand.seed(:exsss, 8)
    :ok
  end

  # Vectors around 30 centres, as pictures lie: noise alone has no neighbours.
  defp entries(model, dim, count) do
    centres = for _ <- 1..30, do: noise(dim)

    for id <- 1..count do
      floats = for {c, n} <- Enum.zip(Enum.random(centres), noise(dim)), do: c + n
      {id, embedding(floats, model)}
    end
  end

  defp noise(dim), do: for(_ <- 1..dim, do: :rand.normal())

  defp embedding(floats, model) do
    vector = for x <- floats, into: <<>>, do: <<x::float-32-little>>
    {:ok, embedding} = Embedding.from_binary(vector, model)
    embedding
  end

  defp copy!(server, pairs) do
    path = Path.join(System.tmp_dir!(), "zs-copy-#{System.unique_integer([:positive])}")
    File.write!(path, pairs |> @copy.chunks() |> Enum.to_list())
    Postgres.query!(server, @copy.statement(), path)
  after
    "zs-copy-*" |> Path.expand(System.tmp_dir!()) |> Path.wildcard() |> Enum.each(&File.rm/1)
  end

  # `$1`, `$2`, … of a block of the guide, in psql's way.
  defp bind(sql, values) do
    bound = for value <- values, do: [" '", to_string(value), "'"]
    [sql |> String.trim() |> String.trim_trailing(";"), " \\bind", bound, " \\g\n"]
  end

  defp wire_text(embedding), do: inspect(Embedding.to_list(embedding), limit: :infinity)
  defp bind(sql, embedding, more), do: bind(sql, parameters(embedding) ++ more)
  defp parameters(embedding), do: [wire_text(embedding), embedding.model, embedding.commit]

  defp ranked(rows),
    do: for([id, score] <- rows, do: {String.to_integer(id), elem(Float.parse(score), 0)})

  # What the index in memory says of the same vectors.
  defp exact(entries, query) do
    index = Index.new()
    :ok = Index.put_many(index, entries)
    {:ok, found} = Index.nearest(index, query, k: 10)
    for %{id: id, score: score} <- found, do: {id, score}
  end

  defp assert_same(found, expected) do
    assert Enum.map(found, &elem(&1, 0)) == Enum.map(expected, &elem(&1, 0))
    for {{_, a}, {_, b}} <- Enum.zip(found, expected), do: assert_in_delta(a, b, 1.0e-5)
  end

  defp recall(found, expected) do
    ids = MapSet.new(found, &elem(&1, 0))
    Enum.count(expected, &(elem(&1, 0) in ids)) / length(expected)
  end

  defp query, do: embedding(noise(512), @old)

  test "binary and text forms of a vector are the same to PostgreSQL", context do
    %{server: server, entries: [{1, first}, {2, second} | _]} = context

    rows =
      Postgres.query!(server, """
      SELECT photo_id, vector_dims(embedding), encode(vector_send(embedding), 'hex'),
        embedding = '#{wire_text(first)}'::vector, round(vector_norm(embedding)::numeric, 5)
      FROM photo_embeddings WHERE photo_id <= 2 ORDER BY photo_id
      """)

    hex = fn embedding -> embedding |> Embedding.to_pgvector() |> Base.encode16(case: :lower) end

    assert rows == [
             ["1", "512", hex.(first), "t", "1.00000"],
             ["2", "512", hex.(second), "f", "1.00000"]
           ]
  end

  test "the statement without an index is the exact order", context do
    for query <- [query(), elem(hd(context.entries), 1)] do
      sql = bind(context.sql["exact"], query, [])
      assert [["Limit" <> _ | _] | _] = plan = Postgres.query!(context.server, ["EXPLAIN ", sql])
      refute inspect(plan) =~ "photo_embeddings_vit_b32"
      found = context.server |> Postgres.query!(sql) |> ranked()
      assert_same(found, exact(context.entries, query))
    end
  end

  for {name, index} <- [
        {"nearest", "photo_embeddings_vit_b32"},
        {"nearest by halfvec", "photo_embeddings_vit_b32_half"}
      ] do
    test "#{name}: uses its index, and finds the exact neighbours", context do
      %{server: server, sql: sql, entries: entries} = context
      statement = sql[unquote(name)]
      queries = for {_id, embedding} <- Enum.take_every(entries, 300), do: embedding

      recalls =
        for query <- queries do
          [found, plan] =
            for explain <- ["", "EXPLAIN "],
                do:
                  Postgres.query!(server, [
                    "SET hnsw.ef_search = 100;",
                    explain,
                    bind(statement, query, [])
                  ])

          assert inspect(plan) =~ "Index Scan using #{unquote(index)} "
          found = ranked(found)
          assert length(found) == 10
          assert_in_delta found |> hd() |> elem(1), 1.0, 1.0e-3
          recall(found, exact(entries, query))
        end

      assert Enum.sum(recalls) / length(recalls) >= 0.95
    end
  end

  test "an index of halfvec takes half the space", %{server: server} do
    [[full, half]] =
      Postgres.query!(server, """
      SELECT pg_relation_size('photo_embeddings_vit_b32'), pg_relation_size('photo_embeddings_vit_b32_half')
      """)

    ratio = String.to_integer(half) / String.to_integer(full)
    assert ratio > 0.4 and ratio < 0.65
  end

  test "a filter loses rows without the iterative scan, and none with it", context do
    %{server: server, sql: sql, entries: entries} = context
    album = for {id, _} = entry <- entries, rem(id, @albums) == 3, do: entry
    {_id, query} = Enum.at(album, 4)
    # With so few rows, PostgreSQL would rather sort them all.
    index = ["SET enable_sort = off;", "SET hnsw.iterative_scan = off;"]
    statement = bind(sql["nearest in an album"], query, [3])

    plan = Postgres.query!(server, [index, "EXPLAIN ", statement])
    assert inspect(plan) =~ "Index Scan using photo_embeddings_vit_b32"
    assert length(Postgres.query!(server, [index, statement])) < 5

    found = server |> Postgres.query!([index, sql["iterative scan"], statement]) |> ranked()
    assert length(found) == 10
    assert found == Enum.sort_by(found, &elem(&1, 1), :desc)
    assert Enum.all?(found, fn {id, _} -> rem(id, @albums) == 3 end)
    # As good as the index is on all rows of so much noise.
    assert recall(found, exact(album, query)) >= 0.7

    # What the planner does by itself.
    assert length(Postgres.query!(server, [sql["iterative scan"], statement])) == 10
  end

  test "a statement that is prepared, as Postgrex does, keeps using the index", context do
    query = query()

    call = [
      "EXECUTE nearest ('",
      wire_text(query),
      "', '",
      @old[:model],
      "', '",
      @old[:commit],
      "');"
    ]

    prepare = ["PREPARE nearest (vector, text, text) AS ", context.sql["nearest"]]

    # After five times, PostgreSQL may take a plan that knows no parameters, and so no partial index.
    plan = Postgres.query!(context.server, [prepare, List.duplicate(call, 8), "EXPLAIN ", call])
    assert plan |> Enum.take(-6) |> inspect() =~ "Index Scan using photo_embeddings_vit_b32"
  end

  test "two models stand side by side, and the old one goes",
       %{server: server, sql: sql} = context do
    next = entries(@next, 768, 200)
    copy!(server, next)
    Postgres.query!(server, [sql["next index"], "ANALYZE;"])

    query = elem(hd(next), 1)
    statement = String.replace(sql["nearest"], "512", "768")
    found = server |> Postgres.query!(bind(statement, query, [])) |> ranked()
    assert_same(found, exact(next, query))

    # Rows of the other model are not seen, however alike.
    old = elem(hd(context.entries), 1)
    assert [["1", _] | _] = Postgres.query!(server, bind(sql["nearest"], old, []))
    none = %{old | commit: "another"}
    assert Postgres.query!(server, bind(sql["nearest"], none, [])) == []

    # In a copy of the database, which other tests go on with.
    kept = String.replace(sql["retire"], "DROP INDEX CONCURRENTLY", "DROP INDEX")
    counts = "SELECT model, count(*) FROM photo_embeddings GROUP BY model;"
    rows = Postgres.query!(server, ["BEGIN;", kept, counts, "ROLLBACK;"])
    assert rows == [[@next[:model], "200"]]
    Postgres.query!(server, "DELETE FROM photo_embeddings WHERE model = '#{@next[:model]}'")
  end

  test "a deleted picture takes its vectors along, and a vector without a model is refused",
       context do
    %{server: server} = context

    assert [["0"]] =
             Postgres.query!(server, """
             BEGIN;
             DELETE FROM photos WHERE id = 5;
             SELECT count(*) FROM photo_embeddings WHERE photo_id = 5;
             ROLLBACK;
             """)

    assert_raise RuntimeError, ~r/null value in column "commit"/, fn ->
      Postgres.query!(server, "INSERT INTO photo_embeddings VALUES (1, 'a', NULL, '[1]')")
    end
  end

  test "every block of SQL has been named here", %{sql: sql} do
    named = ~w(tables index nearest exact retire) ++ ["iterative scan", "nearest in an album"]
    named = named ++ ["halfvec index", "nearest by halfvec", "next index"]
    assert Enum.sort(Map.keys(sql)) == Enum.sort(named)
    assert sql["tables"] != nil
  end

  test "the server and its files are gone after its time, and when its caller is killed" do
    server = Postgres.start!(2)
    eventually_gone(server)

    test = self()

    caller =
      spawn(fn ->
        send(test, Postgres.start!(600))
        Process.sleep(:infinity)
      end)

    assert_receive %{socket: _} = server, 120_000
    Process.exit(caller, :kill)
    eventually_gone(server)
  end

  defp eventually_gone(server), do: assert(Postgres.stop(%{server | port: nil}) == :ok)
end
