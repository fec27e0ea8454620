defmodule Image.ZeroShot.Call.VocabularyTest do
  # Many callers that want the same vocabulary at once. The model is a stand-in whose runs the test sees
  # and answers.
  # One test kills the cache, which belongs to all.
  use ExUnit.Case, async: false

  import Image.ZeroShot.Test.Wait

  alias Image.ZeroShot.Call.{Compile, Deadline, Options, Vocabulary, VocabularyCache}
  alias Image.ZeroShot.Error
  alias Image.ZeroShot.Serving.Client
  alias Image.ZeroShot.Test.Runner

  # Words that no other test has.
  defp words(count \\ 3),
    do: for(_ <- 1..count, do: "word #{System.unique_integer([:positive])}")

  defp opts(words, more \\ []) do
    opts = Map.merge(Options.suggest!(vocabulary: words, template: nil), Runner.opts(open: :ok))
    opts = Map.merge(opts, Map.new(more))
    on_exit(fn -> Client.unload(opts) end)
    opts
  end

  defp call(opts), do: Task.async(fn -> Vocabulary.classifier(opts) end)

  defp run(prompts) do
    assert_receive {:run, _server, _tag, [], ^prompts} = run, 30_000
    run
  end

  defp labels({:ok, classifier}), do: Tuple.to_list(classifier.labels)

  # Waits for a task, and answers the runs that it needs. It needs none if the serving has cached the
  # prompts of one before, whose caller has died.
  defp answering(%{ref: ref} = task) do
    receive do
      {:run, _, _, _, _} = run -> Runner.answer(run) && answering(task)
      {^ref, result} -> result
    after
      30_000 -> flunk("no answer")
    end
  end

  # Until so many wait for a caller.
  defp waiting(maker, count), do: eventually(fn -> waiting?(maker, count) end)

  defp waiting?(maker, count) do
    turns = Map.values(:sys.get_state(VocabularyCache).making)
    Enum.any?(turns, &(&1.pid == maker.pid and length(&1.waiting) == count))
  end

  test "callers who want the same vocabulary at once embed it once" do
    words = words()
    opts = opts(words)
    first = call(opts)
    run = run(words)
    others = for _ <- 1..20, do: call(opts)
    waiting(first, 20)
    Runner.answer(run)

    answers = await_all([first | others])
    assert [{:ok, classifier}] = Enum.uniq(answers)
    assert Tuple.to_list(classifier.labels) == words
    assert await(call(opts)) == {:ok, classifier}
    refute_received {:run, _, _, _, _}
  end

  test "rows of one precision are not taken for those of another" do
    words = words()
    opts = opts(words)
    assert ["f32", "int8"] == Enum.filter(["f32", "int8", "f32"], &embeds?(opts, words, &1))
  end

  # Whether the vocabulary is embedded for a model of this precision.
  defp embeds?(opts, words, precision) do
    opts = %{opts | id: make_ref(), info: %{opts.info | precision: precision}}
    on_exit(fn -> Client.unload(opts) end)
    task = call(opts)

    receive do
      {:run, _, _, [], ^words} = run ->
        Runner.answer(run)
        assert {:ok, _} = await(task)
        true

      {ref, {:ok, _}} when ref == task.ref ->
        false
    after
      30_000 -> flunk("no answer")
    end
  end

  test "a vocabulary of several parts is embedded once" do
    words = words(600)
    opts = opts(words)
    first = call(opts)
    assert_receive {:run, _, _, [], prompts} = run, 30_000
    other = call(opts)
    waiting(first, 1)
    Runner.answer(run)
    assert Enum.sort(prompts ++ rest(600 - length(prompts))) == Enum.sort(words)
    assert await(first) == await(other)
    refute_received {:run, _, _, _, _}
  end

  # Answers all runs of so many prompts.
  defp rest(0), do: []

  defp rest(count) do
    assert_receive {:run, _, _, [], [_ | _] = prompts} = run, 30_000
    Runner.answer(run)
    prompts ++ rest(count - length(prompts))
  end

  test "another vocabulary does not wait" do
    [slow, fast] = [words(), words()]
    opts = opts(slow)
    first = call(opts)
    run = run(slow)

    # With another serving: one has one run at a time.
    other = call(opts(fast))
    fast |> run() |> Runner.answer()
    assert labels(await(other)) == fast
    assert Task.yield(first, 0) == nil
    Runner.answer(run)
    assert labels(await(first)) == slow
  end

  test "the next caller takes over from one that fails" do
    words = words()
    opts = opts(words)
    first = call(opts)
    {:run, server, tag, _, _} = run(words)
    others = for _ <- 1..2, do: call(opts)
    waiting(first, 2)
    send(server, {tag, {:error, {:internal, "no such luck"}}})
    assert {:error, %{reason: :internal}} = await(first)

    # One of them, and the other waits for it.
    run = run(words)
    eventually(fn -> Enum.any?(others, &waiting?(&1, 1)) end)
    refute_received {:run, _, _, _, _}
    Runner.answer(run)
    assert [answer, answer] = await_all(others)
    assert labels(answer) == words
  end

  test "the next caller takes over from one that is killed" do
    words = words()
    opts = opts(words)
    first = spawn(fn -> Vocabulary.classifier(opts) end)
    abandoned = run(words)
    other = call(opts)
    waiting(%{pid: first}, 1)
    kill(first)
    Runner.answer(abandoned)
    assert labels(answering(other)) == words
  end

  test "who waits longer than the call may take gets a timeout, and the first goes on" do
    words = words()
    opts = opts(words)
    first = call(opts)
    run = run(words)
    assert {:error, error} = await(call(%{opts | timeout: 1}))
    assert error.reason == :timeout
    assert error.message =~ "the vocabulary is not embedded yet"
    assert error.message =~ "raise :timeout"
    Runner.answer(run)
    assert {:ok, classifier} = await(first)
    # What is there needs no time.
    assert await(call(%{opts | timeout: 0})) == {:ok, classifier}
  end

  test "what a caller has waited comes off the time that it has to embed" do
    key = make_ref()
    test = self()
    fail = fn _deadline -> Error.error(:internal, "no such luck") end

    first =
      Task.async(fn ->
        VocabularyCache.fetch(key, :infinity, fn deadline ->
          send(test, :making)
          receive do: (:fail -> fail.(deadline))
        end)
      end)

    assert_receive :making, 30_000

    next =
      Task.async(fn ->
        VocabularyCache.fetch(key, 60_000, &(send(test, {:deadline, &1}) && fail.(&1)))
      end)

    waiting(first, 1)
    latest = Deadline.new(60_000)
    # A deadline made when its turn comes would be later.
    Process.sleep(5)
    send(first.pid, :fail)
    assert_receive {:deadline, deadline}, 30_000
    assert deadline <= latest
    assert [{:error, _}, {:error, _}] = await_all([first, next])
  end

  test "the deadline ends the work, however much time each part may have" do
    words = words()
    {:ok, labels} = Vocabulary.labels(opts(words))
    opts = opts(words)
    assert {:ok, _info} = Client.load(opts)
    assert {:error, %{reason: :timeout}} = Compile.run(labels, opts, [], Deadline.new(0))
  end

  test "a caller that gave up does not hold the turn" do
    words = words()
    opts = opts(words)
    first = call(opts)
    {:run, server, tag, _, _} = run(words)

    patient =
      Task.async(fn ->
        assert {:error, %{reason: :timeout}} = Vocabulary.classifier(%{opts | timeout: 1})
        Vocabulary.classifier(opts)
      end)

    # The one that gave up, and the same again.
    waiting(first, 2)
    send(server, {tag, {:error, {:internal, "no such luck"}}})
    words |> run() |> Runner.answer()
    assert labels(await(patient)) == words
    assert {:error, %{reason: :internal}} = await(first)
  end

  test "a turn that comes when its caller has given up is the next one's" do
    key = make_ref()
    classifier = {:ok, Image.ZeroShot.classifier(["a"], repo: :embedded, device: :cpu)}
    # No time to wait for the answer, which comes all the same.
    late = fn _deadline -> Error.error(:timeout, "in time after all") end
    assert {:error, %{reason: :timeout}} = VocabularyCache.fetch(key, 0, late)

    next =
      Task.async(fn -> VocabularyCache.fetch(key, :infinity, fn _deadline -> classifier end) end)

    assert await(next) == classifier
  end

  test "a crash is the caller's own, and the next one's turn" do
    key = make_ref()
    classifier = {:ok, Image.ZeroShot.classifier(["a"], repo: :embedded, device: :cpu)}

    assert_raise ArgumentError, "oops", fn ->
      VocabularyCache.fetch(key, :infinity, fn _deadline -> raise ArgumentError, "oops" end)
    end

    next =
      Task.async(fn -> VocabularyCache.fetch(key, :infinity, fn _deadline -> classifier end) end)

    assert await(next) == classifier
  end

  test "callers need no cache: one that is killed is back with the next call" do
    classifier = {:ok, Image.ZeroShot.classifier(["a"], repo: :embedded, device: :cpu)}
    key = make_ref()
    make = fn _deadline -> kill(Process.whereis(VocabularyCache)) && classifier end
    assert VocabularyCache.fetch(key, :infinity, make) == classifier
    eventually(fn -> Process.whereis(VocabularyCache) != nil end)
    assert VocabularyCache.fetch(key, :infinity, fn _deadline -> classifier end) == classifier
  end
end
