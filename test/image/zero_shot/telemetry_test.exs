defmodule Image.ZeroShot.TelemetryTest do
  # Puts a module `:telemetry` into the VM, and takes it away again.
  use ExUnit.Case, async: false

  import Image.ZeroShot.Test.Wait

  alias Image.ZeroShot
  alias Image.ZeroShot.{Error, Telemetry}
  alias Image.ZeroShot.Serving.{Client, Directory}
  alias Image.ZeroShot.Test.Runner

  @dog {:path, "priv/samples/dog.jpg"}

  # Where the real one is, a test would need another way to listen.
  @moduletag skip: Code.ensure_loaded?(:telemetry)

  setup context do
    unless context[:without_telemetry] do
      test = self()

      quoted =
        quote do
          def execute(event, measurements, metadata) do
            test = unquote(:erlang.pid_to_list(test)) |> :erlang.list_to_pid()
            send(test, {:event, event, measurements, metadata, self()})
          end
        end

      Module.create(:telemetry, quoted, __ENV__)

      on_exit(fn ->
        :code.purge(:telemetry)
        :code.delete(:telemetry)
      end)
    end

    :ok
  end

  defp serving do
    opts = Runner.opts(open: :ok, repo: :stand_in, max_queue: 2)
    on_exit(fn -> Client.unload(opts) end)
    {:ok, _info} = Client.load(opts)
    {server, _entry} = Directory.lookup({:model, opts.id})
    {opts, server}
  end

  # All events, in the order they came.
  defp events(events \\ []) do
    receive do
      {:event, [:image_zero_shot | event], measurements, metadata, from} ->
        events([{event, measurements, metadata, from} | events])
    after
      0 -> Enum.reverse(events)
    end
  end

  @tag :without_telemetry
  test "an application without :telemetry gets no event, and no error" do
    refute function_exported?(:telemetry, :execute, 3)
    assert Telemetry.emit(:overload, %{count: 1}, %{}) == :ok
    assert ZeroShot.label(@dog, ["cat", "dog"], repo: :embedded) == "dog"
  end

  test "a load is a span of the loading process" do
    {opts, _server} = serving()
    assert [{[:load, :start], started, metadata, from}, stop] = events()
    assert %{system_time: _, monotonic_time: at} = started
    assert %{repo: :stand_in, telemetry_span_context: context} = metadata
    assert {[:load, :stop], ended, result, ^from} = stop
    stopped = %{repo: :stand_in, result: :ok, reason: nil, telemetry_span_context: context}
    assert result == stopped
    assert ended.monotonic_time - at == ended.duration and from != self()

    failing = %{opts | id: make_ref(), open: :ask}
    task = Task.async(fn -> Runner.call(failing, [<<1>>]) end)
    assert_receive {:opening, loader}
    send(loader, {:open, {:error, %Error{reason: :io, message: "no such luck"}}})
    assert {:error, _} = await(task)
    assert [_start, {[:load, :stop], _, %{result: :error}, _}] = events()
  end

  test "spans have the shape of :telemetry.span/3" do
    for run <- [
          fn -> {:ok, 1} end,
          fn -> {:error, :no} end,
          fn -> raise "oops" end,
          fn -> throw(:ball) end,
          fn -> exit(:gone) end
        ] do
      outcome = outcome(fn -> Telemetry.span(:load, %{repo: :r}, run) end)
      # What it returns and raises is what `run` does.
      assert outcome == outcome(run)

      assert [{[:load, :start], started, start, _}, {[:load, last], ended, stop, _}] = events()
      assert Enum.sort(Map.keys(started)) == [:monotonic_time, :system_time]
      assert Enum.sort(Map.keys(ended)) == [:duration, :monotonic_time]
      assert ended.duration == ended.monotonic_time - started.monotonic_time
      assert %{repo: :r, telemetry_span_context: context} = start
      assert map_size(start) == 2 and is_reference(context)

      case outcome do
        {:returned, {result, _}} ->
          assert last == :stop
          assert stop == Map.merge(start, %{result: result, reason: nil})

        {kind, reason} ->
          assert last == :exception
          assert Map.delete(stop, :stacktrace) == Map.merge(start, %{kind: kind, reason: reason})
          assert [{__MODULE__, _, _, _} | _] = stop.stacktrace
      end
    end
  end

  test "a span that stops with an error of the library has its reason" do
    failure = {:error, %Error{reason: :io, message: "no such luck"}}
    assert Telemetry.span(:load, %{}, fn -> failure end) == failure
    assert [_start, {[:load, :stop], _, %{result: :error, reason: :io}, _}] = events()
  end

  test "each span has a context of its own" do
    for _ <- 1..3, do: Telemetry.span(:load, %{}, fn -> {:ok, 1} end)
    contexts = for {_, _, metadata, _} <- events(), do: metadata.telemetry_span_context
    assert [a, a, b, b, c, c] = contexts
    assert length(Enum.uniq([a, b, c])) == 3
  end

  defp outcome(run) do
    {:returned, run.()}
  catch
    kind, reason -> {kind, reason}
  end

  test "queue and batch events come from the serving" do
    {opts, server} = serving()
    _load = events()
    first = Task.async(fn -> Runner.call(opts, [<<1>>, <<2>>], ["a"]) end)
    assert_receive {:run, ^server, _tag, _pixels, _prompts} = run
    Runner.answer(run)
    assert {:ok, _} = await(first)

    assert [{[:queue], queue, metadata, ^server}, {[:batch], batch, result, ^server}] = events()
    assert metadata == %{model: "stand-in", serving: nil}
    assert is_integer(queue.duration) and queue.duration >= 0
    assert %{requests: 1, pictures: 2, prompts: 1, duration: duration} = batch
    assert is_integer(duration) and duration > 0
    assert result == %{model: "stand-in", serving: nil, result: :ok}
  end

  test "overload events come from the caller" do
    {opts, server} = serving()
    _load = events()
    tasks = for _ <- 1..2, do: Task.async(fn -> Runner.call(opts, [<<1>>]) end)
    assert_receive {:run, ^server, _tag, _pixels, _prompts} = run
    # The other one is admitted before it has anything to ask.
    eventually(fn -> elem(Directory.lookup({:model, opts.id}), 1).gate |> full?() end)

    assert {:error, %Error{reason: :overloaded}} = Runner.call(opts, [<<1>>])
    caller = self()
    mine = for {event, _, _, ^caller} = all <- events(), event != [:queue], do: all

    assert [{[:overload], %{count: 1}, %{max_queue: 2}, ^caller}] = mine

    Runner.answer(run)
    assert_receive {:run, ^server, _tag, _pixels, _prompts} = run
    Runner.answer(run)
    await_all(tasks)
  end

  defp full?(gate), do: Image.ZeroShot.Serving.Gate.size(gate) == gate.max

  test "preprocessing is a span of the caller, with its result" do
    ZeroShot.load(repo: :embedded)
    _load = events()
    bytes = File.read!("priv/samples/dog.jpg")
    assert {:ok, "dog"} = ZeroShot.try_label(bytes, ["cat", "dog"], repo: :embedded)
    size = byte_size(bytes)
    caller = self()

    assert [
             {[:call, :start], _, _, ^caller},
             {[:preprocess, :start], %{system_time: _}, %{bytes: ^size}, ^caller},
             {[:preprocess, :stop], %{duration: _}, %{bytes: ^size, result: :ok}, ^caller},
             {[:queue], _, %{model: "emoji-clip"}, _},
             {[:batch], _, _, _},
             {[:call, :stop], _, _, ^caller}
           ] = events()

    assert {:error, _} = ZeroShot.try_label("no picture", ["cat", "dog"], repo: :embedded)

    assert [_call, _start, {[:preprocess, :stop], _, stop, _}, error, _stop] = events()
    assert %{result: :error, reason: :invalid_image} = stop
    assert {[:error], %{count: 1}, %{reason: :invalid_image, serving: nil}, ^caller} = error
  end

  describe "a call" do
    setup do
      :ok = ZeroShot.load(repo: :embedded)
      _load = events()
      :ok
    end

    # The spans of calls among all events: name, metadata, process.
    defp calls do
      for {[:call, step], times, metadata, from} <- events(), do: {step, times, metadata, from}
    end

    test "is a span of the caller, whichever function begins it" do
      classifier = ZeroShot.classifier(["cat", "dog"], repo: :embedded)
      opts = [repo: :embedded]
      _classifier = events()

      for {function, run} <- [
            classify: fn -> ZeroShot.classify(@dog, ["cat", "dog"], opts) end,
            classify: fn -> ZeroShot.try_classify(@dog, classifier) end,
            label: fn -> ZeroShot.label(@dog, ["cat", "dog"], opts) end,
            explain: fn -> ZeroShot.explain(@dog, ["cat", "dog"], opts) end,
            similarity: fn -> ZeroShot.similarity(@dog, @dog, opts) end,
            suggest: fn -> ZeroShot.suggest(@dog, [vocabulary: ["cat", "dog"]] ++ opts) end,
            embed: fn -> ZeroShot.embed(@dog, opts) end,
            embed_text: fn -> ZeroShot.embed_text("a dog", opts) end,
            classifier: fn -> ZeroShot.classifier(["cat"], opts) end
          ] do
        caller = self()
        run.()

        assert [{:start, started, metadata, ^caller}, {:stop, ended, stop, ^caller}] = calls()
        assert %{function: ^function, repo: :embedded, serving: nil} = metadata
        assert map_size(metadata) == 4
        assert stop == Map.merge(metadata, %{result: :ok, reason: nil})
        assert ended.duration == ended.monotonic_time - started.monotonic_time
      end
    end

    test "names its serving instead of a model" do
      name = __MODULE__.Named
      start_supervised!({Image.ZeroShot.Serving, name: name, repo: :embedded})
      assert ZeroShot.label(@dog, ["cat", "dog"], serving: name) == "dog"
      assert [_start, {:stop, _, %{serving: ^name, repo: nil, result: :ok}, _}] = calls()
    end

    test "that fails stops with the reason, also where it raises" do
      missing = {:path, "no.jpg"}
      assert {:error, _} = ZeroShot.try_classify(missing, ["cat"], repo: :embedded)
      assert_raise Error, fn -> ZeroShot.classify(missing, ["cat"], repo: :embedded) end

      assert [{:start, _, _, _}, first, {:start, _, _, _}, second] = calls()

      for {step, _, metadata, _} <- [first, second] do
        assert step == :stop
        assert %{function: :classify, result: :error, reason: :not_found} = metadata
      end
    end

    test "with a mistake in the program is an exception, and a wrong option no call" do
      too_many = List.duplicate(@dog, 513)
      assert_raise ArgumentError, fn -> ZeroShot.embed(too_many, repo: :embedded) end
      assert [{:start, _, _, _}, {:exception, _, metadata, _}] = calls()
      assert %{function: :embed, kind: :error, reason: %ArgumentError{}} = metadata

      assert_raise ArgumentError, fn -> ZeroShot.classify(@dog, ["cat"], top: 1) end
      assert calls() == []
    end
  end

  test "error events come from the caller, for every kind of error" do
    assert {:error, _} = ZeroShot.try_classify(@dog, [], repo: :embedded)
    assert {:error, _} = ZeroShot.try_similarity(@dog, {:path, "no.jpg"}, repo: :embedded)
    assert {:error, _} = ZeroShot.try_label(@dog, ["cat"], serving: __MODULE__.None)
    errors = for {[:error], %{count: 1}, metadata, from} <- events(), do: {metadata, from}

    assert Enum.unzip(errors) ==
             {[
                %{reason: :invalid_label, serving: nil},
                %{reason: :not_found, serving: nil},
                %{reason: :serving_down, serving: __MODULE__.None}
              ], List.duplicate(self(), 3)}
  end

  test "every event is in the table of the documentation" do
    {:docs_v1, _, _, _, %{"en" => documentation}, _, _} = Code.fetch_docs(Telemetry)

    sources = Enum.map_join(Path.wildcard("lib/**/*.ex"), &File.read!/1)
    emitted = for [_, event] <- Regex.scan(~r/Telemetry\.emit\(\s*:(\w+)/, sources), do: [event]

    spans =
      for [_, event] <- Regex.scan(~r/Telemetry\.span\(\s*:(\w+)/, sources),
          step <- ["start", "stop", "exception"],
          do: [event, step]

    assert length(emitted) >= 4 and length(spans) >= 6

    for event <- emitted ++ spans do
      row = "`[#{Enum.map_join(event, ", ", &":#{&1}")}]`"
      assert documentation =~ row, "#{row} is not documented"
    end
  end
end
