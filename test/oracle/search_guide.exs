# The modules of the guide "Search" on the real Ecto, Postgrex, pgvector and Oban, and on a real PostgreSQL.
#
# None of the packages is a dependency, so `bin/test` runs the guide's SQL only. With these among the `deps` of
# mix.exs, `{:ecto_sql, "~> 3.13"}, {:postgrex, "~> 0.22"}, {:pgvector, "~> 0.3"}, {:oban, "~> 2.20"}` and
# `{:jason, "~> 1.4"}`, this should pass:
#
#     MIX_ENV=test mix run test/oracle/search_guide.exs

ExUnit.start(autorun: false, timeout: 300_000)
Logger.configure(level: :warning)

for app <- [:ecto, :ecto_sql, :postgrex, :pgvector, :oban] do
  {:ok, _} = Application.ensure_all_started(app)
  IO.puts("#{app} #{Application.spec(app, :vsn)}")
end

alias Image.ZeroShot.Test.{Markdown, Postgres}

guide = "guides/search.md"
server = Postgres.start!(600)
folder = Path.join(System.tmp_dir!(), "zs-search-guide-#{System.pid()}")
File.mkdir_p!(folder)

blocks =
  for {line, "# " <> _ = code} <- guide |> File.read!() |> Markdown.blocks("elixir"),
      do: {line, code}

{_line, config} = Enum.find(blocks, fn {_line, code} -> code =~ "import Config" end)
File.write!(Path.join(folder, "config.exs"), config)
config = Config.Reader.read!(Path.join(folder, "config.exs"))[:my_app]

repo =
  Keyword.merge(config[MyApp.Repo],
    socket_dir: server.socket,
    username: "postgres",
    database: "postgres",
    log: false,
    pool_size: 4
  )

Application.put_env(:my_app, MyApp.Repo, repo)
Application.put_env(:image_zero_shot, :repo, :embedded)

defmodule MyApp.Repo do
  use Ecto.Repo, otp_app: :my_app, adapter: Ecto.Adapters.Postgres
end

defmodule MyApp.Repo.Migrations.AddOban do
  use Ecto.Migration
  def up, do: Oban.Migrations.up()
  def down, do: Oban.Migrations.down()
end

# The guide implements a protocol; the consolidated one would not know.
for path <- :code.get_path(),
    List.to_string(path) =~ ~r{image_zero_shot/consolidated$},
    do: :code.del_path(path)

:code.purge(Image.ZeroShot.Source)
:code.delete(Image.ZeroShot.Source)

# LiveView has a test of its own. In parallel: they name each other.
files =
  for {{line, code}, i} <- Enum.with_index(blocks),
      code =~ ~r/^(defmodule MyApp\.|Postgrex\.Types)/m do
    path = Path.join(folder, "#{i}.ex")
    File.write!(path, String.duplicate("\n", line) <> code)
    path
  end

{:ok, _modules, warnings} = Kernel.ParallelCompiler.compile(files)
if warnings != [], do: raise("the guide's modules compile with warnings: #{inspect(warnings)}")

{:ok, _} = MyApp.Repo.start_link()

for {module, version} <- [
      {MyApp.Repo.Migrations.CreatePhotoEmbeddings, 1},
      {MyApp.Repo.Migrations.IndexPhotoEmbeddings, 2},
      {MyApp.Repo.Migrations.AddOban, 3}
    ],
    do: Ecto.Migrator.up(MyApp.Repo, version, module, log: false)

defmodule Image.ZeroShot.Oracle.SearchGuide do
  use ExUnit.Case, async: false
  use Oban.Testing, repo: MyApp.Repo

  alias Image.ZeroShot.Embedding
  alias Image.ZeroShot.Test.{Markdown, Postgres}
  alias MyApp.{Backfill, BulkLoad, EmbedPhoto, Photo, PhotoEmbedding, Photos, Repo}

  @server Map.delete(server, :port)
  @samples Enum.sort(Path.wildcard("priv/samples/*.{jpg,png}"))

  setup_all do
    {:ok, _} = Oban.start_link(repo: Repo, testing: :manual, queues: [clip: 2])
    :ok = Image.ZeroShot.load()
  end

  setup do
    Repo.delete_all(Photo)
    Repo.delete_all(Oban.Job)
    :ok
  end

  defp schema(database) do
    Postgres.query!(@server, """
    \\connect #{database}
    SELECT table_name, column_name, data_type, is_nullable FROM information_schema.columns
      WHERE table_name IN ('photos', 'photo_embeddings') ORDER BY 1, 2;
    SELECT replace(indexdef, 'public.', '') FROM pg_indexes
      WHERE tablename IN ('photos', 'photo_embeddings') AND indexdef LIKE '%hnsw%';
    SELECT pg_get_constraintdef(oid) FROM pg_constraint
      WHERE conrelid IN ('photos'::regclass, 'photo_embeddings'::regclass) AND contype IN ('p', 'f') ORDER BY 1
    """)
  end

  test "the migrations make what the SQL makes" do
    Postgres.query!(@server, "CREATE DATABASE by_hand")
    sql = for {_, code} <- Markdown.blocks(File.read!("guides/search.md"), "sql"), do: code

    for block <- ~w(tables index),
        code <- sql,
        code =~ "-- #{block}\n",
        do: run_in("by_hand", code)

    assert schema("postgres") == schema("by_hand")
  end

  defp run_in(database, code), do: Postgres.query!(@server, ["\\connect ", database, "\n", code])

  test "an upload becomes a job, a vector and an answer" do
    for path <- @samples, do: assert({:ok, %Photo{}} = Photos.add(path, 1))
    {:ok, lost} = Photos.add("/no/such/file.jpg", 1)
    {:ok, broken} = Photos.add("mix.exs", 1)

    for photo <- Repo.all(Photo),
        do: assert_enqueued(worker: EmbedPhoto, args: %{photo_id: photo.id}, queue: :clip)

    assert %{success: success, cancelled: 2, failure: 0} = Oban.drain_queue(queue: :clip)
    assert success == length(@samples)
    assert Repo.aggregate(PhotoEmbedding, :count) == success

    assert {:cancel, %{reason: :not_found}} = perform_job(EmbedPhoto, %{photo_id: lost.id})
    assert {:cancel, %{reason: :invalid_image}} = perform_job(EmbedPhoto, %{photo_id: broken.id})
    assert {:cancel, :deleted} = perform_job(EmbedPhoto, %{photo_id: 0})

    for path <- @samples do
      assert {:ok, [%{photo: photo, score: score} | _]} = Photos.search({:picture, {:path, path}})
      assert photo.path == path
      assert_in_delta score, 1.0, 1.0e-5
    end

    assert {:ok, [%{photo: %{path: "priv/samples/dog" <> _}}]} =
             Photos.search({:text, "a dog"}, limit: 1)

    assert {:ok, []} = Photos.search({:text, "a dog"}, album_id: 2)
    assert {:ok, [_ | _]} = Photos.search({:text, "a dog"}, album_id: 1)
    assert {:error, %{reason: :not_found}} = Photos.search({:picture, {:path, "/no/such"}})
  end

  test "a job that runs twice leaves one row, and one that meets a full serving is snoozed" do
    {:ok, photo} = Photos.add(hd(@samples), 1)
    for _ <- 1..2, do: assert(:ok = perform_job(EmbedPhoto, %{photo_id: photo.id}))
    assert Repo.aggregate(PhotoEmbedding, :count) == 1

    Application.put_env(:image_zero_shot, :serving, MyApp.Nobody)
    assert {:snooze, 15} = perform_job(EmbedPhoto, %{photo_id: photo.id})
    assert %{snoozed: 1, failure: 0} = Oban.drain_queue(queue: :clip)
  after
    Application.delete_env(:image_zero_shot, :serving)
  end

  test "the backfill embeds what is missing, and leaves out what cannot be" do
    for path <- @samples ++ ["/no/such.jpg"], do: Repo.insert!(%Photo{path: path, album_id: 1})
    first = Repo.get_by!(Photo, path: hd(@samples))
    :ok = perform_job(EmbedPhoto, %{photo_id: first.id})

    log = ExUnit.CaptureLog.capture_log(fn -> assert :ok = Backfill.run([]) end)
    assert log =~ "no such"
    assert Repo.aggregate(PhotoEmbedding, :count) == length(@samples)
    {:ok, [%{photo: %{id: id}} | _]} = Photos.search({:picture, {:path, hd(@samples)}})
    assert id == first.id
  end

  test "COPY through Ecto, and the planner's index on what it loads" do
    count = 3_000
    Repo.insert_all(Photo, for(i <- 1..count, do: %{path: "#{i}", album_id: rem(i, 100)}))
    ids = Repo.all(from_ids())

    model = [
      model: "openai/clip-vit-base-patch32",
      commit: "3d74acf9a28c67741b2f4f2ea7635f0aaf6f0268"
    ]

    pairs =
      for id <- ids do
        vector = for _ <- 1..512, into: <<>>, do: <<:rand.normal()::float-32-little>>
        {:ok, embedding} = Embedding.from_binary(vector, model)
        {id, embedding}
      end

    assert {:ok, _} = BulkLoad.run(pairs)
    Repo.query!("ANALYZE")
    {id, query} = Enum.at(pairs, 1_234)
    nearest = PhotoEmbedding.nearest(query, 10)
    assert [%{photo: %{id: ^id}, score: score} | _] = found = Repo.all(nearest)
    assert length(found) == 10
    assert_in_delta score, 1.0, 1.0e-5
    assert Ecto.Adapters.SQL.explain(Repo, :all, nearest) =~ "photo_embeddings_vit_b32"

    # The configuration's setting is in force, whatever way the planner takes.
    assert %{rows: [["strict_order"]]} = Repo.query!("SHOW hnsw.iterative_scan")

    assert {:ok, [%{rows: rows}]} =
             Repo.transaction(fn ->
               Repo.query!("SET LOCAL enable_sort = off")
               [%{rows: nearest |> PhotoEmbedding.in_album(7) |> Repo.all()}]
             end)

    assert length(rows) == 10
    assert Enum.all?(rows, &(&1.photo.album_id == 7))

    # All or nothing.
    assert_raise Postgrex.Error, ~r/duplicate key/, fn -> BulkLoad.run(Enum.take(pairs, 1)) end
  end

  defp from_ids do
    import Ecto.Query
    from(p in Photo, select: p.id, order_by: p.id)
  end
end

result = ExUnit.run()
Supervisor.stop(MyApp.Repo)
Postgres.stop(server)
File.rm_rf!(folder)
if result.failures > 0, do: System.halt(1)
