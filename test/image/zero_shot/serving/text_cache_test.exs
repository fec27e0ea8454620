defmodule Image.ZeroShot.TextCacheTest do
  # Counts on its mailbox.
  use ExUnit.Case, async: true

  import Image.ZeroShot.Test.Wait

  alias Image.ZeroShot
  alias Image.ZeroShot.Serving
  alias Image.ZeroShot.Serving.{Client, Directory, Handle, TextCache}
  alias Image.ZeroShot.Test.{Embeddings, Pictures, Runner}

  defp start(opts) do
    on_exit(fn -> Client.unload(opts) end)
    {:ok, _info} = Client.load(opts)
    {server, _entry} = Directory.lookup({:model, opts.id})
    server
  end

  # What was computed is known once the serving has answered this.
  defp stats(server) do
    {:ok, info} = Handle.describe(server)
    info.text_cache
  end

  # A call whose texts are run, which have to be these.
  defp call(opts, server, pixels, prompts, run) do
    task = Task.async(fn -> Runner.call(opts, pixels, prompts) end)
    assert_receive {:run, ^server, _tag, ^pixels, ^run} = message
    Runner.answer(message)
    answer = await(task)
    stats(server)
    answer
  end

  defp row(prompt), do: {<<byte_size(prompt) / 1::float-32-native>>, false}
  defp put(cache, prompts), do: for(p <- prompts, do: TextCache.put(cache, p, row(p)))

  describe "a serving" do
    test "runs no text that it has run before" do
      opts = Runner.opts(open: :ok)
      server = start(opts)

      {images, texts, []} = Runner.embeddings([<<1>>], ["a", "bb", "a"])
      answer = {:ok, {images, texts, []}}
      assert call(opts, server, [<<1>>], ["a", "bb", "a"], ["a", "bb"]) == answer
      assert %{size: 2, max: 1_000, hits: 0, misses: 2} = stats(server)

      assert call(opts, server, [<<1>>], ["a", "bb", "a"], []) == answer
      assert %{size: 2, hits: 2, misses: 2} = stats(server)

      # Of others, only those that are new, in whatever order they come.
      {images, texts, []} = Runner.embeddings([<<2>>], ["ccc", "bb", "d", "a"])

      assert call(opts, server, [<<2>>], ["ccc", "bb", "d", "a"], ["ccc", "d"]) ==
               {:ok, {images, texts, []}}

      assert %{size: 4, hits: 4, misses: 4} = stats(server)
      assert {:ok, %{batches: %{count: 3, pictures: 3, prompts: 4}}} = Handle.describe(server)
    end

    test "is asked nothing for texts that are known" do
      opts = Runner.opts(open: :ok)
      server = start(opts)
      answer = call(opts, server, [], ["a", "bb"], ["a", "bb"])

      :sys.suspend(server)
      assert Runner.call(opts, [], ["a", "bb"]) == answer
      assert Process.info(server, :message_queue_len) == {:message_queue_len, 0}
      :sys.resume(server)
      refute_received {:run, _, _, _, _}
      assert %{hits: 2} = stats(server)
    end

    test "runs what several ask for at the same time once" do
      opts = Runner.opts(open: :ok)
      server = start(opts)
      hold = Task.async(fn -> Runner.call(opts, [<<0>>]) end)
      assert_receive {:run, ^server, _tag, [<<0>>], []} = held

      # Both are on their way before anything is known.
      :sys.suspend(server)
      tasks = for _ <- 1..2, do: Task.async(fn -> Runner.call(opts, [], ["a", "bb"]) end)
      await_messages(server, 2)
      :sys.resume(server)
      Runner.answer(held)

      assert_receive {:run, ^server, _tag, [], ["a", "bb"]} = run
      Runner.answer(run)
      {_images, texts, []} = Runner.embeddings([], ["a", "bb"])
      assert await_all(tasks) == List.duplicate({:ok, {<<>>, texts, []}}, 2)
      assert {:ok, {_, <<>>, []}} = await(hold)
      assert %{size: 2, hits: 0, misses: 4} = stats(server)
    end

    @nothing %{pictures: 0, decoded_here: 0, prompts: [], parts: 1}

    test "remembers what was cut, and that it was told of" do
      opts = Runner.opts(open: :ok, run: :answer)
      server = start(opts)

      encode = fn prompts ->
        {:ok, lease} = Client.checkout(opts, %{@nothing | prompts: prompts})
        {:ok, embeddings} = Client.run(lease, [], prompts)
        :ok = Client.checkin(lease)
        stats(server)
        {embeddings.truncated, embeddings.news}
      end

      assert encode.(["a", "long one"]) == {[1], true}
      assert encode.(["a", "long one"]) == {[1], false}
      assert encode.(["b", "long one", "a", "long one"]) == {[1, 3], false}
      assert encode.(["long two", "long one"]) == {[0, 1], true}
      assert encode.(["c"]) == {[], false}
    end

    test "forgets all when it is unloaded" do
      opts = Runner.opts(open: :ok)
      server = start(opts)
      call(opts, server, [], ["a"], ["a"])
      {^server, %{cache: cache}} = Directory.lookup({:model, opts.id})
      assert map_size(TextCache.fetch(cache, ["a"])) == 1

      :ok = Client.unload(opts)
      # Whoever still holds the cache finds nothing in it, and no error.
      assert TextCache.fetch(cache, ["a"]) == %{}
      another = start(opts)
      assert %{size: 0, hits: 0, misses: 0} = stats(another)
      call(opts, another, [], ["a"], ["a"])
    end

    test "keeps none where :max_cached_prompts is 0, and never more than it says" do
      none = Runner.opts(open: :ok, max_cached_prompts: 0)
      server = start(none)
      for _ <- 1..2, do: call(none, server, [], ["a"], ["a"])
      assert stats(server) == %{size: 0, max: 0, hits: 0, misses: 2}

      few = Runner.opts(open: :ok, run: :answer, max_cached_prompts: 7)
      server = start(few)

      for n <- 1..40 do
        assert {:ok, _} = Runner.call(few, [], for(i <- n..(n + 10), do: "prompt #{i}"))
        assert %{max: 7, size: size} = stats(server)
        assert size <= 7
      end
    end
  end

  describe "the bound" do
    test "is kept over many times the size, whatever is asked for" do
      for max <- [1, 2, 3, 10, 101] do
        cache = TextCache.new(max)

        for n <- 1..(20 * max) do
          put(cache, ["new #{n}"])
          assert TextCache.stats(cache).size <= max

          assert %{"new 1" => _} =
                   Map.merge(%{"new 1" => nil}, TextCache.fetch(cache, ["new #{n}"]))

          # All that is known is in use, which moves it to the young ones.
          TextCache.fetch(cache, for(i <- max(n - 2 * max, 1)..n, do: "new #{i}"))
          assert TextCache.stats(cache).size <= max
        end

        assert TextCache.stats(cache) |> Map.take([:max, :size]) |> Map.fetch!(:max) == max
        assert map_size(TextCache.fetch(cache, ["new #{20 * max}"])) == 1
      end
    end

    test "is kept by what is in use, and forgets the rest" do
      cache = TextCache.new(100)
      used = for n <- 1..40, do: "used #{n}"
      put(cache, used)

      for n <- 1..100 do
        put(cache, for(i <- 1..10, do: "new #{n} #{i}"))
        assert TextCache.fetch(cache, used) == Map.new(used, &{&1, row(&1)})
      end

      assert TextCache.fetch(cache, ["new 1 1", "new 50 1"]) == %{}
      assert %{size: size} = TextCache.stats(cache)
      assert size in 40..100
    end

    test "holds with callers at once, who find nothing but what was put" do
      cache = TextCache.new(64)
      prompts = for n <- 1..200, do: "prompt #{n} " <> String.duplicate("x", n)

      callers =
        for seed <- 1..8 do
          Task.async(fn ->
            :rand.seed(:exsss, {seed, 0, 0})

            for _ <- 1..300 do
              some = Enum.take_random(prompts, 20)
              for {prompt, row} <- TextCache.fetch(cache, some), do: assert(row == row(prompt))
              assert TextCache.stats(cache).size <= 64
            end
          end)
        end

      for _ <- 1..20, do: put(cache, Enum.shuffle(prompts))
      await_all(callers)
      {a, b} = cache.tables
      assert :ets.info(a, :size) + :ets.info(b, :size) <= 64
    end

    test "is kept by what callers find, which is moved for them" do
      opts = Runner.opts(open: :ok, run: :answer, max_cached_prompts: 8)
      server = start(opts)
      {^server, %{cache: cache}} = Directory.lookup({:model, opts.id})
      {:ok, _} = Runner.call(opts, [], ["used"])

      for n <- 1..40 do
        {:ok, _} = Runner.call(opts, [], ["new #{n}", "used"])
        assert %{size: size} = stats(server)
        assert size <= 8
        assert map_size(TextCache.fetch(cache, ["used"])) == 1
      end
    end

    test "no other process can put a row into it, or take one out" do
      opts = Runner.opts(open: :ok, run: :answer)
      server = start(opts)
      {:ok, answer} = Runner.call(opts, [], ["a"])
      {^server, %{cache: %{tables: {a, b}}}} = Directory.lookup({:model, opts.id})

      for table <- [a, b],
          write <- [
            fn -> :ets.insert(table, {"a", <<0::32>>, false}) end,
            fn -> :ets.delete(table, "a") end,
            fn -> :ets.delete_all_objects(table) end,
            fn -> :ets.delete(table) end
          ],
          do: assert_raise(ArgumentError, write)

      assert Runner.call(opts, [], ["a"]) == {:ok, answer}
    end

    test "leaves no row that keeps those beside it alive" do
      cache = TextCache.new(10)
      rows = :binary.copy(<<1, 2, 3, 4>>, 1_000)
      TextCache.put(cache, "a", {binary_part(rows, 400, 400), true})
      assert %{"a" => {row, true}} = TextCache.fetch(cache, ["a"])
      assert :binary.referenced_byte_size(row) == 400
    end
  end

  test "results are the same, known or not" do
    labels = for n <- 1..50, do: "thing #{n}"
    dog = Pictures.sample("dog.jpg")

    # A model of its own, whose cache is not that of other tests. Cosines, since what is summed for
    # the others depends on the order.
    start_supervised!({Serving, name: __MODULE__.Clip, repo: :embedded, device: :cpu})
    opts = [serving: __MODULE__.Clip]
    scored = [scores: :cosine] ++ opts

    cold = ZeroShot.classify(dog, labels, scored)
    {:ok, before} = ZeroShot.info(opts)
    assert %{size: 50, max: 50_000, hits: 0, misses: 50} = before.text_cache

    assert ZeroShot.classify(dog, labels, scored) == cold
    assert ZeroShot.classify(dog, Enum.reverse(labels), scored) |> Enum.sort() == Enum.sort(cold)
    {:ok, warm} = ZeroShot.info(opts)
    assert %{size: 50, hits: 100, misses: 50} = warm.text_cache
    assert warm.batches.prompts == 50

    prompts = for label <- labels, do: "a photo of #{label}"
    {:ok, {texts, []}} = Embeddings.texts(prompts, opts)
    assert ZeroShot.classifier(labels, opts).texts == texts
  end

  defp await_messages(server, count) do
    eventually(fn -> Process.info(server, :message_queue_len) == {:message_queue_len, count} end)
  end
end
