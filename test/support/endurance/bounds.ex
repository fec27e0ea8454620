defmodule Image.ZeroShot.Test.Bounds do
  @moduledoc false

  # Many callers at once, and callers that are killed at any moment. To be called in a fresh VM.

  alias Image.ZeroShot
  alias Image.ZeroShot.Test.Photo

  @labels ["a cat", "a dog"]

  @doc """
  What so many callers get who call at the same moment, how long the refused ones waited in
  microseconds, sorted, and how many milliseconds later the serving counts none any more.
  """
  def storm(model, count) do
    :ok = ZeroShot.load(model)
    picture = Photo.jpeg(640, 480)

    # All code is there, as it is in a release: else all would wait for the first of them to load it.
    for application <- [:elixir, :image_zero_shot],
        do: :ok = application |> Application.spec(:modules) |> :code.ensure_modules_loaded()

    :ok = call(picture, model)
    callers = for _ <- 1..count, do: Task.async(fn -> wait_and_call(picture, model) end)
    for caller <- callers, do: send(caller.pid, :go)
    answers = Task.await_many(callers, :infinity)

    %{
      answers: answers |> Enum.map(&elem(&1, 1)) |> Enum.frequencies(),
      refusals: Enum.sort(for {time, :overloaded} <- answers, do: time),
      empty: wait_until_empty(model, now())
    }
  end

  @doc """
  What so many clients get who call again and again for some seconds, and wait 0.2 s where they were
  refused, with photographs of 12 megapixels after `small` parts of the time with small ones.
  """
  def clients(model, count, seconds, timeout, small \\ 0.0) do
    # Nothing is known of what anything costs.
    :ok = ZeroShot.load([max_queue: 100] ++ model)
    pictures = {Photo.jpeg(640, 480), Photo.jpeg(4000, 3000)}
    start = now()
    turn = start + round(1_000 * seconds * small)
    opts = [timeout: timeout] ++ model

    1..count
    |> Enum.map(fn _ ->
      Task.async(fn -> client(start + 1_000 * seconds, turn, pictures, opts, []) end)
    end)
    |> Task.await_many(:infinity)
    |> Enum.concat()
    |> Enum.frequencies()
  end

  defp client(ending, turn, pictures, opts, answers) do
    now = now()

    if now < ending do
      answer = pictures |> elem(if(now < turn, do: 0, else: 1)) |> call(opts)
      if answer != :ok, do: Process.sleep(200)
      client(ending, turn, pictures, opts, [answer | answers])
    else
      answers
    end
  end

  @doc """
  How many batches are run from the begin to the end of each of a few small calls, while so many
  callers have so many new labels each.
  """
  def long_lists(model, callers, labels, calls) do
    :ok = ZeroShot.load(model)
    picture = Photo.jpeg(640, 480)
    :ok = call(picture, model)
    opts = [timeout: :infinity] ++ model

    lists =
      for caller <- 1..callers do
        list = for n <- 1..labels, do: "label #{n} of #{caller}"
        Task.async(fn -> ZeroShot.try_classifier(list, opts) end)
      end

    wait_until_busy(model, callers)
    batches = for n <- 1..calls, do: batches_for(fn -> small(picture, n, opts) end, model)
    busy = Enum.count(lists, &(Task.yield(&1, 0) == nil))
    for list <- lists, do: Task.shutdown(list, :brutal_kill)
    %{batches: batches, busy: busy}
  end

  defp small(picture, n, opts) do
    {:ok, _} = ZeroShot.try_classify(picture, ["new #{n}", "cat"], opts)
  end

  defp batches_for(call, model) do
    before = batches(model)
    call.()
    batches(model) - before
  end

  defp batches(model) do
    {:ok, info} = ZeroShot.info(model)
    info.batches.count
  end

  defp wait_until_busy(model, callers, attempts \\ 1_000) do
    %{waiting: waiting, running: running} = queue(model)

    if waiting + running < callers and attempts > 0 do
      Process.sleep(5)
      wait_until_busy(model, callers, attempts - 1)
    end
  end

  @doc """
  Starts so many callers, `at_once` of them at a time, and kills each at a random moment of its
  call. How many had their answer before, how long the serving takes until it counts none any more
  in milliseconds, and what another caller gets.
  """
  def kills(model, count, at_once) do
    :ok = ZeroShot.load(model)
    picture = Photo.jpeg(640, 480)
    {time, answered} = :timer.tc(fn -> kill_in_turn(model, picture, count, at_once) end)
    empty = wait_until_empty(model, now())

    %{
      answered: answered,
      each: div(time * at_once, count),
      empty: empty,
      after: call(picture, model),
      mailbox: mailbox()
    }
  end

  defp kill_in_turn(model, picture, count, at_once) do
    1..count
    |> Task.async_stream(fn i -> kill(model, picture, i) end,
      max_concurrency: at_once,
      timeout: :infinity
    )
    |> Enum.count(&match?({:ok, :normal}, &1))
  end

  # Up to 100 ms: while the picture is decoded, while its pixels wait, or while they run.
  defp kill(model, picture, i) do
    :rand.seed(:exsss, i)
    {caller, monitor} = spawn_monitor(fn -> call(picture, model) end)

    receive do
      {:DOWN, ^monitor, :process, ^caller, reason} -> reason
    after
      :rand.uniform(100) - 1 ->
        Process.exit(caller, :kill)
        receive do: ({:DOWN, ^monitor, :process, ^caller, reason} -> reason)
    end
  end

  defp wait_until_empty(model, start) do
    case queue(model) do
      %{admitted: 0, waiting: 0, running: 0} -> now() - start
      queue -> wait_again(queue, model, start)
    end
  end

  defp wait_again(queue, model, start) do
    if now() - start > 60_000, do: raise("not empty after a minute: #{inspect(queue)}")
    Process.sleep(10)
    wait_until_empty(model, start)
  end

  defp wait_and_call(picture, model) do
    receive do: (:go -> :ok)
    :timer.tc(fn -> call(picture, model) end)
  end

  defp call(picture, model) do
    case ZeroShot.try_classify(picture, @labels, model) do
      {:ok, _} -> :ok
      {:error, error} -> error.reason
    end
  end

  defp queue(model) do
    {:ok, info} = ZeroShot.info(model)
    info.queue
  end

  defp mailbox, do: self() |> Process.info(:message_queue_len) |> elem(1)
  defp now, do: System.monotonic_time(:millisecond)
end
