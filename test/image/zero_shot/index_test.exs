defmodule Image.ZeroShot.IndexTest do
  use ExUnit.Case, async: true

  alias Image.ZeroShot.{Embedding, Error, Index}

  doctest Index, except: [put_many: 2]

  @opts [repo: :embedded, device: :cpu]
  @samples Path.wildcard("priv/samples/*.{jpg,png,webp,gif}")

  # An embedding of three numbers.
  defp vector(x, y, z \\ 0.0, model \\ "m") do
    binary = for n <- [x, y, z], into: <<>>, do: <<n::float-32-little>>
    {:ok, embedding} = Embedding.from_binary(binary, model: model, commit: "c1")
    embedding
  end

  defp random(dim \\ 32) do
    binary = for _ <- 1..dim, into: <<>>, do: <<:rand.normal()::float-32-little>>
    {:ok, embedding} = Embedding.from_binary(binary, model: "random")
    embedding
  end

  defp ids({:ok, results}), do: Enum.map(results, & &1.id)

  describe "entries" do
    test "any term is an id, and equal terms are one id" do
      large = Map.new(1..100, &{&1, "#{&1}"})
      shuffled = large |> Map.to_list() |> Enum.shuffle() |> Map.new()
      ids = [1, 1.0, "a", :a, ~c"a", {:a, [1]}, large, nil, self(), make_ref(), <<1::3>>, ""]
      index = Index.new()
      for id <- ids, do: assert(Index.put(index, id, vector(1.0, 0.0)) == :ok)
      assert Index.size(index) == length(ids)
      assert index |> Index.nearest(vector(1.0, 0.0), k: 20) |> ids() == ids
      assert Enum.sort(Index.ids(index)) == Enum.sort(ids)
      assert Index.member?(index, shuffled) and not Index.member?(index, 2)
      assert Index.put(index, shuffled, vector(0.0, 1.0)) == :ok
      assert Index.size(index) == length(ids)
      for id <- ids, do: assert(Index.delete(index, id) == :ok)
      assert Index.size(index) == 0
      assert Index.delete(index, "gone") == :ok
    end

    test "an id that is too long raises" do
      assert_raise ArgumentError, ~r/an id of at most 65536 bytes, got one of 70006;/, fn ->
        Index.put(Index.new(), String.duplicate("x", 70_000), vector(1.0, 0.0))
      end
    end

    test "a stream of entries is put in, in thousands" do
      index = Index.new()
      entries = Stream.map(1..2_500, &{&1, random()})
      assert Index.put_many(index, entries) == :ok
      assert Index.size(index) == 2_500
      assert Index.put_many(index, []) == :ok
    end

    test "what is not an embedding under an id is named, with the way out" do
      embedding = vector(1.0, 0.0)
      entry = "expected the entry with the id 1 to be an Image.ZeroShot.Embedding, got: "

      for {wrong, message} <- [
            {{1, {:path, "dog.jpg"}},
             entry <>
               ~s({:path, "dog.jpg"}; Image.ZeroShot.embed/2 makes one of a picture, and ) <>
               "Image.ZeroShot.embed_text/2 of a text"},
            {{1, {:ok, embedding}},
             entry <> "#{inspect({:ok, embedding})}; take the embedding out of {:ok, embedding}"},
            {embedding, "expected each entry to be {id, embedding}, got: #{inspect(embedding)}"}
          ] do
        assert_raise ArgumentError, message, fn -> Index.put_many(Index.new(), [wrong]) end
      end
    end

    test "an index takes no more than its limit" do
      index = Index.new(max_size: 2)
      assert Index.put_many(index, for(i <- 1..2, do: {i, vector(1.0, 0.0)})) == :ok

      assert {:error, %Error{reason: :index_full, message: message}} =
               Index.put(index, 3, vector(1.0, 0.0))

      assert message =~ "would hold 3 entries, the limit is 2; delete some or raise :max_size"
      assert Index.put(index, 2, vector(0.0, 1.0)) == :ok
    end

    test "embeddings of another model or commit are an error that names both" do
      index = Index.new()
      assert Index.put(index, 1, vector(1.0, 0.0)) == :ok
      other = vector(1.0, 0.0, 0.0, "n")
      expected = ~s(the index holds embeddings of "m" at c1, and this one is of "n" at c1; )

      for result <- [Index.put(index, 2, other), Index.nearest(index, other)] do
        assert {:error, %Error{reason: :wrong_model, message: message}} = result
        assert message =~ expected
      end

      commit = %{vector(1.0, 0.0) | commit: "c2"}
      assert {:error, %Error{message: message}} = Index.put(index, 2, commit)
      assert message =~ ~s("m" at c1, and this one is of "m" at c2)
      entries = [{3, vector(1.0, 0.0)}, {4, other}]
      assert {:error, %Error{reason: :wrong_model}} = Index.put_many(index, entries)
      assert Index.size(index) == 1
    end

    test "facts" do
      for {storage, bytes} <- [f32: 64, f16: 32, i8: 132] do
        index = Index.new(storage: storage, max_size: 5)
        :ok = Index.put(index, 1, vector(1.0, 0.0))

        assert %{size: 1, max_size: 5, storage: ^storage, bytes: ^bytes, waiting: 0} =
                 info = Index.info(index)

        assert info.model == %{name: "m", commit: "c1", dim: 3}
        assert inspect(index) == ~s(#Image.ZeroShot.Index<1 entry of "m", #{storage}>)
      end
    end

    test "a struct that is not an index can be shown, and is an error everywhere" do
      elsewhere = :erlang.binary_to_term(<<131, 90, 1::16, 119, 3, "a@b", 1::32, 1::32>>)
      assert inspect(%Index{ref: elsewhere}) == "#Image.ZeroShot.Index<on :a@b>"
      assert inspect(%Index{ref: make_ref()}) =~ "%Image.ZeroShot.Index{ref: #Reference<"

      for broken <- [%{__struct__: Index}, %{__struct__: Index, ref: 1}, %Index{ref: make_ref()}] do
        assert inspect(broken) =~ "Image.ZeroShot.Index"
        assert_raise ArgumentError, fn -> Index.size(broken) end
        assert_raise ArgumentError, fn -> Index.info(broken) end
      end
    end

    test "a text where a picture is expected is an error that says how to search by a text" do
      {:error, error} = Index.nearest(Index.new(), "a pizza", repo: :embedded)
      assert {error.reason, error.message =~ "it begins with"} == {:invalid_image, true}
      assert String.ends_with?(error.message, "; to search by a text give {:text, text}")
      {:error, error} = Index.nearest(Index.new(), <<0, 1, 2>>, repo: :embedded)
      refute error.message =~ ":text"
    end

    test "what is not an index or a wrong option raises" do
      assert_raise ArgumentError,
                   ~r/expected an Image.ZeroShot.Index or the name of one, got: 7/,
                   fn -> Index.size(7) end

      assert_raise ArgumentError, ~r/expected :storage to be :f32, :f16 or :i8/, fn ->
        Index.new(storage: :f64)
      end

      # The options of a search, and those for embedding the query.
      for query <- [{:text, "dog"}, {:path, "priv/samples/dog.jpg"}] do
        wrong = fn -> Index.nearest(Index.new(), query, top_k: 3, repo: :embedded) end
        error = assert_raise ArgumentError, ~r/unknown option :top_k/, wrong
        for name <- [":k", ":min_score", ":repo"], do: assert(error.message =~ name)
      end

      assert_raise ArgumentError, ~r/unknown option :kk/, fn ->
        Index.nearest(Index.new(), {:id, 1}, kk: 1)
      end

      assert_raise ArgumentError, ~r/expected :only to be a list of ids, a function/, fn ->
        Index.nearest(Index.new(), {:id, 1}, only: 1)
      end
    end
  end

  describe "nearest/3" do
    test "finds what the cosines say, in every storage" do
      entries = for id <- 1..300, do: {id, random()}
      query = random()

      expected =
        entries
        |> Enum.map(fn {id, e} -> {Embedding.similarity(e, query), id} end)
        |> Enum.sort(:desc)

      for storage <- [:f32, :f16, :i8] do
        index = Index.new(storage: storage)
        :ok = Index.put_many(index, entries)
        assert {:ok, results} = Index.nearest(index, query, k: 7)
        assert Enum.map(results, & &1.id) == expected |> Enum.take(7) |> Enum.map(&elem(&1, 1))

        for {%{score: score}, {cosine, _id}} <- Enum.zip(results, expected),
            do: assert_in_delta(score, cosine, 1.0e-3)
      end
    end

    test "a query that is an id by itself is an error that says how to give it" do
      for id <- [1, :dog, 1.5] do
        assert {:error, %Error{reason: :unsupported_image, message: message}} =
                 Index.nearest(Index.new(), id, @opts)

        assert String.ends_with?(message, "; to search by an entry give {:id, #{inspect(id)}}")
      end
    end

    test "searches by picture, text, embedding and entry" do
      index = Index.new()
      pictures = Enum.map(@samples, &{:path, &1})

      entries =
        for {{:path, path}, {:ok, e}} <- Image.ZeroShot.embed_many(pictures, @opts), do: {path, e}

      :ok = Index.put_many(index, entries)
      dog = "priv/samples/dog.jpg"
      embedding = Map.new(entries)[dog]
      assert [^dog | others] = index |> Index.nearest(embedding) |> ids()
      assert [^dog | ^others] = index |> Index.nearest({:path, dog}, @opts) |> ids()
      assert [^dog | ^others] = index |> Index.nearest(File.read!(dog), @opts) |> ids()
      assert Enum.take(others, 3) == index |> Index.nearest({:id, dog}, k: 3) |> ids()

      assert [^dog] =
               index
               |> Index.nearest({:text, "dog"}, [k: 1, template: "a photo of a {label}"] ++ @opts)
               |> ids()

      assert {:error, %Error{reason: :not_found, message: message}} =
               Index.nearest(index, {:id, "x.jpg"})

      assert message == ~s(the index has no entry "x.jpg"; add it with Image.ZeroShot.Index.put/3)
      assert {:error, %Error{reason: :not_found}} = Index.nearest(index, {:path, "no.jpg"}, @opts)
    end

    test "a filter never leaves too few results" do
      index = Index.new()
      :ok = Index.put_many(index, for(id <- 1..3_000, do: {id, random()}))
      query = random()
      all = index |> Index.nearest(query, k: 3_000) |> ids()
      tenth = Enum.filter(all, &(rem(&1, 10) == 0))
      test = self()
      filter = fn id -> send(test, {:asked, id}) && rem(id, 10) == 0 end
      assert index |> Index.nearest(query, only: filter) |> ids() == Enum.take(tenth, 10)
      asked = collect()
      assert asked == Enum.uniq(asked) and length(asked) < 1_000
      assert index |> Index.nearest(query, k: 400, only: filter) |> ids() == tenth

      assert index |> Index.nearest(query, k: 7, only: Enum.shuffle(tenth) ++ [:none]) |> ids() ==
               Enum.take(tenth, 7)

      assert index |> Index.nearest(query, only: []) |> ids() == []
      assert index |> Index.nearest(query, only: fn _ -> nil end) |> ids() == []
      assert {:ok, [%{score: score}]} = Index.nearest(index, query, k: 1)
      assert index |> Index.nearest(query, min_score: score) |> ids() == Enum.take(all, 1)
    end

    test "several queries at once find what each finds" do
      index = Index.new(storage: :i8)
      :ok = Index.put_many(index, for(id <- 1..1_000, do: {id, random()}))
      queries = Enum.map(1..150, &{:id, &1}) ++ [random()]
      {:ok, together} = Index.nearest_many(index, queries, k: 3)
      assert together == Enum.map(queries, &elem(Index.nearest(index, &1, k: 3), 1))
      assert {:ok, []} = Index.nearest_many(index, [])

      assert {:error, %Error{reason: :not_found}} =
               Index.nearest_many(index, [{:id, 1}, {:id, 0}])

      assert_raise ArgumentError, ~r/got: a function/, fn ->
        Index.nearest_many(index, [], only: & &1)
      end

      assert_raise ArgumentError, ~r/expected {:id, id} or an Image.ZeroShot.Embedding/, fn ->
        Index.nearest_many(index, [{:text, "x"}])
      end
    end
  end

  describe "many processes" do
    test "a thousand search at once while one writes" do
      index = Index.new()
      :ok = Index.put_many(index, for(id <- 1..2_000, do: {id, random()}))
      writer = Task.async(fn -> for id <- 1..300, do: :ok = Index.put(index, id, random()) end)

      1..1_000
      |> Task.async_stream(fn id -> {:ok, [_ | _]} = Index.nearest(index, {:id, id}) end,
        max_concurrency: 1_000,
        timeout: :infinity
      )
      |> Stream.run()

      Task.await(writer, :infinity)
      assert Index.info(index).waiting == 0
    end

    test "a search that comes too late is an error, and leaves no message" do
      index = Index.new()
      :ok = Index.put_many(index, for(id <- 1..5_000, do: {id, random(512)}))
      results = for _ <- 1..50, do: Index.nearest(index, {:id, 1}, timeout: 0)

      assert Enum.all?(
               results,
               &(match?({:ok, _}, &1) or match?({:error, %Error{reason: :timeout}}, &1))
             )

      assert {:ok, [_]} = Index.nearest(index, {:id, 1}, k: 1)
      assert Process.info(self(), :message_queue_len) == {:message_queue_len, 0}
    end

    test "a caller that is killed in mid-search does no harm" do
      index = Index.new()
      :ok = Index.put_many(index, for(id <- 1..5_000, do: {id, random(512)}))

      for _ <- 1..200 do
        searcher = spawn(fn -> Index.nearest(index, {:id, 1}) end)
        Process.exit(searcher, :kill)
      end

      assert {:ok, [_ | _]} = Index.nearest(index, {:id, 1})
      assert Index.info(index).waiting == 0
    end

    test "an index outlives the process that made it" do
      test = self()

      {maker, monitor} =
        spawn_monitor(fn ->
          index = Index.new()
          :ok = Index.put(index, 1, vector(1.0, 0.0))
          send(test, index)
        end)

      assert_receive %Index{} = index
      assert_receive {:DOWN, ^monitor, :process, ^maker, :normal}
      assert Index.size(index) == 1
    end
  end

  defp collect do
    receive do
      {:asked, id} -> [id | collect()]
    after
      0 -> []
    end
  end
end
