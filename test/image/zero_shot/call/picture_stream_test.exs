defmodule Image.ZeroShot.ManyTest do
  use ExUnit.Case, async: true

  import Image.ZeroShot.Test.Wait

  alias Image.ZeroShot
  alias Image.ZeroShot.Error
  alias Image.ZeroShot.Call.{ParallelMap, PictureStream}
  alias Image.ZeroShot.Serving.Handle
  alias Image.ZeroShot.Test.{Pictures, Runner, Upload}

  @embedded [repo: :embedded, device: :cpu]
  @labels ["cat", "dog", "pizza"]

  # Takes the stream in a process of its own, and tells the test what it gets.
  defp consume(stream) do
    test = self()
    spawn_monitor(fn -> Enum.each(stream, &send(test, {:taken, &1})) end)
  end

  describe "in a serving" do
    test "what waits fills the batches" do
      opts = Runner.opts(open: :ok, info: [max_batch: 4])
      window = PictureStream.window(%{max_batch: 4, concurrency: 1, queue: %{max: 512}}, 2)
      work = fn n -> Runner.call(opts, [<<n>>]) end
      {_consumer, monitor} = 1..50 |> ParallelMap.map(fn -> {window, work} end) |> consume()
      sizes = run_all(monitor, window, [], [])
      assert Enum.sum(sizes) == 50
      # 14 where all come in order: the first goes alone. Some pass others on the way.
      assert length(sizes) <= 20

      for n <- 1..50 do
        embedding = <<n / 1::float-32-native>>
        assert_received {:taken, {^n, {:ok, {:ok, {^embedding, _, _}}}}}
      end
    end

    # Answers a run when all others of the window have come to wait behind it.
    defp run_all(monitor, window, done, sizes) do
      receive do
        {:run, server, _tag, pixels, _prompts} = run ->
          until_waiting(server, begun(window, done) - length(done) - length(pixels))
          Runner.answer(run)
          done = Enum.map(pixels, fn <<n>> -> n end) ++ done
          run_all(monitor, window, done, [length(pixels) | sizes])

        {:DOWN, ^monitor, :process, _, :normal} ->
          sizes
      after
        30_000 -> flunk("no run and no end after #{inspect(sizes)}")
      end
    end

    # The window begins behind the last one that was taken, in order.
    defp begun(window, done) do
      taken = Enum.find(0..50, &((&1 + 1) not in done))
      min(taken + window, 50)
    end

    defp until_waiting(server, count) do
      eventually(fn ->
        {:ok, %{queue: %{waiting: waiting}}} = Handle.describe(server)
        waiting >= count
      end)
    end

    test "the window follows the model, and leaves room for others" do
      info = %{max_batch: 16, concurrency: 1, queue: %{max: 512}}
      assert PictureStream.window(info, 4) == 36
      assert PictureStream.window(%{info | concurrency: 2}, 4) == 68
      assert PictureStream.window(%{info | max_batch: 256}, 8) == 384
      assert PictureStream.window(%{info | queue: %{max: 1}}, 8) == 1
      assert PictureStream.window(%{info | max_batch: 256, queue: %{max: :infinity}}, 8) == 520
    end

    test "that is full, pictures wait for a place" do
      opts = Runner.opts(open: :ok, max_queue: 1)
      other = Task.async(fn -> Runner.call(opts, ["other"]) end)
      assert_receive {:run, _, _, ["other"], _} = others_run
      test = self()

      call = fn ->
        result = Runner.call(opts, ["mine"])
        send(test, {:tried, result})
        [result]
      end

      mine = Task.async(fn -> PictureStream.patiently(%{timeout: :infinity}, call) end)
      assert_receive {:tried, {:error, %Error{reason: :overloaded}}}
      Runner.answer(others_run)
      assert {:ok, _} = await(other)
      assert_receive {:run, _, _, ["mine"], _} = run
      Runner.answer(run)
      assert [{:ok, _}] = await(mine)
    end

    test "that stays full, they give up when their time is over" do
      refused = [Error.error(:overloaded, "full")]
      test = self()

      call = fn ->
        send(test, :tried)
        refused
      end

      assert PictureStream.patiently(%{timeout: 50}, call) == refused
      assert_received :tried
      assert_received :tried
      assert PictureStream.patiently(%{timeout: 0}, call) == refused
    end

    test "any other error is the answer at once" do
      error = [Error.error(:timeout, "too late")]
      assert PictureStream.patiently(%{timeout: :infinity}, fn -> error end) == error
    end
  end

  describe "classify_many" do
    test "returns what classify returns, in order, past failures" do
      good = Enum.map(Pictures.samples(), &Pictures.sample/1)
      bad = [{:path, "no-such.jpg"}, "no picture", :nothing, {:path, "priv/samples/labels.txt"}]

      pictures =
        Enum.take(good, 3) ++ bad ++ Enum.drop(good, 3) ++ [File.read!("priv/samples/dog.jpg")]

      results = pictures |> ZeroShot.classify_many(@labels, @embedded) |> Enum.to_list()
      assert Enum.map(results, &elem(&1, 0)) == pictures

      for {picture, result} <- results do
        case {result, ZeroShot.try_classify(picture, @labels, @embedded)} do
          {{:ok, many}, {:ok, one}} -> assert_same(many, one)
          {many, one} -> assert many == one
        end
      end

      failed = for {picture, {:error, %Error{}}} <- results, do: picture
      assert failed == bad
    end

    test "takes the options and the kinds of labels that classify takes" do
      picture = Pictures.sample("dog.jpg")

      for {labels, opts} <- [
            {%{1 => ["a cat", "a kitten"], 2 => "a dog"}, []},
            {@labels, [multi_label: true, template: [nil, "a drawing of {label}"]]},
            {@labels, [other: {:none, ["nothing"]}, scores: :cosine]},
            {@labels, [top_k: 1, min_score: 0.0]},
            {Enum.map(1..600, &"thing #{&1}") ++ ["dog"], [top_k: 2]}
          ] do
        opts = opts ++ @embedded

        assert [{^picture, {:ok, many}}] =
                 Enum.to_list(ZeroShot.classify_many([picture], labels, opts))

        assert_same(many, ZeroShot.classify(picture, labels, opts))
      end
    end

    test "takes a classifier, with its options" do
      classifier = ZeroShot.classifier(@labels, [template: nil, top_k: 1] ++ @embedded)
      pictures = [Pictures.sample("cat.png"), Pictures.sample("dog.jpg")]
      results = pictures |> ZeroShot.classify_many(classifier) |> Enum.to_list()
      assert [{_, {:ok, [%{label: "cat"}]}}, {_, {:ok, [%{label: "dog"}]}}] = results

      assert_raise ArgumentError, ~r/^expected no :template together with a classifier/, fn ->
        ZeroShot.classify_many(pictures, classifier, template: nil)
      end
    end

    test "takes an enumerable without end" do
      picture = Pictures.sample("dog.jpg")

      stream =
        Stream.repeatedly(fn -> picture end)
        |> ZeroShot.classify_many(@labels, [window: 3] ++ @embedded)

      assert [_, _, _, _, _] = taken = Enum.take(stream, 5)
      assert Enum.all?(taken, &match?({^picture, {:ok, [%{label: "dog"} | _]}}, &1))
      refute_received _
    end

    test "reads no more pictures ahead than the window" do
      test = self()
      source = Stream.each(1..20, &send(test, {:read, &1}))
      opts = [window: 4] ++ @embedded

      source
      |> Stream.map(fn _ -> Pictures.sample("cat.png") end)
      |> ZeroShot.classify_many(@labels, opts)
      |> Enum.reduce(0, fn {_picture, {:ok, _}}, taken ->
        assert count_read(0) <= if(taken == 0, do: 4, else: 1)
        taken + 1
      end)
      |> then(&assert &1 == 20)
    end

    test "of an empty list is empty" do
      assert Enum.to_list(ZeroShot.classify_many([], @labels, @embedded)) == []
    end

    test "reports progress in the consuming process" do
      pictures = [Pictures.sample("cat.png"), {:path, "no.jpg"}, Pictures.sample("dog.jpg")]
      test = self()
      opts = [progress: &send(test, {:progress, self(), &1})] ++ @embedded

      for {given, total} <- [{pictures, 3}, {Stream.map(pictures, & &1), nil}] do
        given |> ZeroShot.classify_many(@labels, opts) |> Stream.run()
        assert_received {:progress, ^test, %{done: 1, failed: 0, total: ^total}}
        assert_received {:progress, ^test, %{done: 2, failed: 1, total: ^total}}
        assert_received {:progress, ^test, %{done: 3, failed: 1, total: ^total}}
        refute_received _
      end
    end

    test "raises for wrong options at once, before anything is read" do
      pictures = Stream.map([1], fn _ -> flunk("read") end)

      for {opts, message} <- [
            {[window: 0], "expected :window to be an integer from 1 to 100000 or nil, got: 0"},
            {[progress: :loud],
             ~r/^expected :progress to be a function of one argument or nil, got/},
            {[widow: 1], "unknown option :widow; did you mean :window?"},
            {[timeout: -1], ~r/^expected :timeout to be /},
            {%{window: 1}, "expected options to be a keyword list, got: %{window: 1}"}
          ] do
        assert_raise ArgumentError, message, fn ->
          ZeroShot.classify_many(pictures, @labels, opts)
        end
      end

      assert_raise ArgumentError,
                   ~s(expected pictures to be a list or another enumerable, got: "dog.jpg"),
                   fn -> ZeroShot.classify_many("dog.jpg", @labels) end
    end

    test "raises for labels and models that are wrong when it is consumed, before anything is read" do
      pictures = Stream.map([1], fn _ -> flunk("read") end)

      for {labels, opts, reason} <- [
            {[], @embedded, :invalid_label},
            {["cat", 1], @embedded, :invalid_label},
            {@labels, [repo: {:local, "no/such/directory"}], :not_found},
            {@labels, [serving: NoSuchServing], :serving_down}
          ] do
        stream = ZeroShot.classify_many(pictures, labels, opts)
        assert %Error{reason: ^reason} = catch_error(Enum.to_list(stream))
      end
    end

    test "goes on after a picture whose Source crashes" do
      pictures = [Pictures.sample("cat.png"), %Upload{path: :crash}, Pictures.sample("dog.jpg")]
      results = pictures |> ZeroShot.classify_many(@labels, @embedded) |> Enum.to_list()
      assert [{_, {:ok, _}}, {_, {:error, error}}, {_, {:ok, _}}] = results
      assert error.reason == :internal

      assert error.message ==
               "the work on this picture crashed: ** (RuntimeError) no such luck"
    end

    test "raises for a Source that returns nonsense" do
      pictures = [Pictures.sample("cat.png"), %Upload{path: nil}]
      stream = ZeroShot.classify_many(pictures, @labels, @embedded)

      assert_raise ArgumentError, ~r/^expected Image.ZeroShot.Source.prepare\/2 to return/, fn ->
        Enum.to_list(stream)
      end

      refute_received _
    end

    defp count_read(count) do
      receive do
        {:read, _} -> count_read(count + 1)
      after
        0 -> count
      end
    end

    # A batch of another size differs in the last bits.
    defp assert_same(many, one) do
      assert Enum.map(many, & &1.label) == Enum.map(one, & &1.label)

      for {a, b} <- Enum.zip(many, one), do: assert_in_delta(a.score, b.score, 1.0e-4)
    end
  end
end
