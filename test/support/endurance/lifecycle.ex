defmodule Image.ZeroShot.Test.Lifecycle do
  @moduledoc false

  # Many first callers, and servings that are killed. To be called in a fresh VM.

  alias Image.ZeroShot
  alias Image.ZeroShot.Call.Options
  alias Image.ZeroShot.Serving.{Directory, Model}
  alias Image.ZeroShot.Test.{FreshVM, Memory}

  @labels ["a cat", "a dog"]
  @picture {:path, "priv/samples/dog.jpg"}

  @doc """
  What so many callers get who come before the model is loaded, how often it is loaded for them,
  and the most kilobytes that the VM has had.
  """
  def first_callers(model, count) do
    answers =
      1..count
      |> Enum.map(fn _ -> Task.async(fn -> classify(model) end) end)
      |> Task.await_many(:infinity)

    %{answers: Enum.frequencies(answers), peak: FreshVM.status("VmHWM")}
  end

  @warm_up 10

  @doc """
  Kills a serving so many times while it runs a batch. How long its callers waited for their
  answers after that, in microseconds and sorted, and the memory before and after.
  """
  def kills(model, count, callers) do
    # By then nothing is set up any more, and the allocators have what they keep.
    for _ <- 1..@warm_up, do: kill(model, callers)
    wait_until_loaded(model)
    before = Memory.footprint()
    results = for _ <- 1..count, do: kill(model, callers)
    server = wait_until_loaded(model)
    :ok = classify(model)
    {:ok, info} = ZeroShot.info(model)

    %{
      before: before,
      after: settled(before, info.memory),
      weights: info.memory,
      alive: Process.alive?(server),
      answers: results |> Enum.flat_map(&elem(&1, 1)) |> Enum.frequencies(),
      waited: results |> Enum.flat_map(&elem(&1, 0)) |> Enum.sort()
    }
  end

  # The threads of the last one that was killed end after their batch, and then give memory back.
  defp settled(before, weights, attempts \\ 600) do
    now = Memory.footprint()
    more = (now.resident - before.resident) * 1024 > weights / 2

    if (now.threads > before.threads or more) and attempts > 0 do
      Process.sleep(50)
      settled(before, weights, attempts - 1)
    else
      now
    end
  end

  defp kill(model, callers) do
    server = wait_until_loaded(model)
    users = for _ <- 1..callers, do: Task.async(fn -> {classify(model), now()} end)
    wait_until_running(server)
    killed = now()
    Process.exit(server, :kill)
    answers = Task.await_many(users, :infinity)

    {for({answer, at} <- answers, answer != :ok, do: at - killed),
     Enum.map(answers, &elem(&1, 0))}
  end

  defp wait_until_loaded(model) do
    :ok = ZeroShot.load(model)
    {server, _entry} = Directory.lookup({:model, Model.key(Options.load!(model))})
    server
  end

  defp wait_until_running(server, attempts \\ 10_000) do
    if attempts > 0 and map_size(:sys.get_state(server).running) == 0,
      do: wait_until_running(server, attempts - 1)
  end

  defp classify(model) do
    case ZeroShot.try_classify(@picture, @labels, model) do
      {:ok, _} -> :ok
      {:error, error} -> error.reason
    end
  end

  defp now, do: System.monotonic_time(:microsecond)
end
