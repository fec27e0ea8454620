defmodule Image.ZeroShot.AheadTest do
  use ExUnit.Case, async: true

  alias Image.ZeroShot.Call.ParallelMap

  # Tells the test that it has begun, and ends when the test says so.
  defp asks(test) do
    fn element ->
      send(test, {:begun, element, self()})

      receive do
        {:end, result} -> result
        :raise -> raise "no such luck"
      end
    end
  end

  # Takes the stream in a process of its own, and tells the test what it gets.
  defp consume(stream) do
    test = self()
    spawn_monitor(fn -> Enum.each(stream, &send(test, {:taken, &1})) end)
  end

  defp begun(element) do
    assert_receive {:begun, ^element, worker}
    worker
  end

  test "does nothing before the stream is consumed" do
    start = fn ->
      send(self(), :started)
      {2, & &1}
    end

    stream = 1..3 |> Stream.each(&send(self(), {:read, &1})) |> ParallelMap.map(start)
    refute_received _
    assert Enum.to_list(stream) == for(n <- 1..3, do: {n, {:ok, n}})
    assert_received :started
    refute_received :started
    # A second time is a start of its own.
    assert Enum.count(stream) == 3
    assert_received :started
  end

  test "keeps the order where later ones are done first" do
    test = self()
    {_consumer, monitor} = 1..3 |> ParallelMap.map(fn -> {3, asks(test)} end) |> consume()
    workers = for n <- 1..3, do: begun(n)

    for {worker, n} <- Enum.reverse(Enum.zip(workers, 1..3)) do
      refute_received {:taken, _}
      ended(worker, n)
    end

    for n <- 1..3, do: assert_receive({:taken, {^n, {:ok, ^n}}})
    assert_receive {:DOWN, ^monitor, :process, _, :normal}
  end

  test "a list fills the window, and each core still has one" do
    test = self()
    cores = System.schedulers_online()
    groups = for n <- 1..50, do: [{n, 1} | Enum.map(2..300, &{n, &1})]

    for {window, most} <- [{1, 1}, {300, cores + 1}] do
      {consumer, _monitor} =
        groups |> ParallelMap.map(fn -> {window, asks(test)} end) |> consume()

      for group <- Enum.take(groups, most), do: begun(group)
      refute_receive {:begun, _group, _worker}, 100
      Process.exit(consumer, :kill)
    end
  end

  test "begins no more than the window, though all but the first are done" do
    test = self()
    source = Stream.each(1..100, &send(test, {:read, &1}))
    {_consumer, monitor} = source |> ParallelMap.map(fn -> {4, asks(test)} end) |> consume()
    [first | others] = for n <- 1..4, do: begun(n)
    for worker <- others, do: ended(worker, :done)
    assert_received {:read, 4}
    refute_received {:read, 5}

    ended(first, :done)

    for n <- 5..100 do
      worker = begun(n)
      refute_begun_beyond(n + 3)
      ended(worker, :done)
    end

    assert_receive {:DOWN, ^monitor, :process, _, :normal}
  end

  test "gives what is done while the enumerable is slow to give more" do
    test = self()

    slow =
      Stream.repeatedly(fn ->
        send(test, {:asked, self()})
        receive do: ({:next, element} -> element)
      end)

    {consumer, _} =
      slow |> ParallelMap.map(fn -> {10, asks(test)} end) |> Stream.take(1) |> consume()

    send(consumer, {:next, 1})
    ended(begun(1), :one)
    send(consumer, {:next, 2})
    assert_receive {:taken, {1, {:ok, :one}}}
  end

  test "goes on with an enumerable without end, and stops when enough is taken" do
    endless = Stream.iterate(1, &(&1 + 1))
    stream = ParallelMap.map(endless, fn -> {5, &(&1 * 2)} end)
    assert Enum.take(stream, 3) == [{1, {:ok, 2}}, {2, {:ok, 4}}, {3, {:ok, 6}}]
    assert stream |> Stream.drop(1_000) |> Enum.take(1) == [{1_001, {:ok, 2_002}}]

    assert stream |> Stream.zip(["a", "b"]) |> Enum.to_list() ==
             [{{1, {:ok, 2}}, "a"}, {{2, {:ok, 4}}, "b"}]

    refute_received _
  end

  test "ends the work on its way when the stream is halted, and leaves no message" do
    test = self()

    work = fn
      1 ->
        send(test, :first)

      _ ->
        send(test, self())
        receive do: (:never -> :ok)
    end

    assert [{1, {:ok, :first}}] = 1..10 |> ParallelMap.map(fn -> {4, work} end) |> Enum.take(1)

    for worker <- pids([]), monitor = Process.monitor(worker) do
      assert_receive {:DOWN, ^monitor, :process, _, _reason}
    end

    assert_received :first
    refute_received _
  end

  test "ends the work when the consumer is killed" do
    test = self()
    {consumer, _} = 1..10 |> ParallelMap.map(fn -> {3, asks(test)} end) |> consume()
    workers = for n <- 1..3, do: Process.monitor(begun(n))
    Process.exit(consumer, :kill)
    for monitor <- workers, do: assert_receive({:DOWN, ^monitor, :process, _, _reason})
  end

  test "takes a worker that fails, or is killed, for the failure of its element" do
    test = self()
    {_consumer, monitor} = 1..4 |> ParallelMap.map(fn -> {4, asks(test)} end) |> consume()
    [one, two, three, four] = for n <- 1..4, do: begun(n)
    Process.exit(two, :kill)
    send(three, :raise)
    ended(one, :one)
    ended(four, :four)
    assert_receive {:taken, {1, {:ok, :one}}}
    assert_receive {:taken, {2, {:failed, {:exit, :killed, []}}}}
    assert_receive {:taken, {3, {:failed, {:error, %RuntimeError{}, [_ | _]}}}}
    assert_receive {:taken, {4, {:ok, :four}}}
    assert_receive {:DOWN, ^monitor, :process, _, :normal}
  end

  test "leaves nothing behind in a consumer that traps exits" do
    Process.flag(:trap_exit, true)
    work = fn n -> if n == 2, do: exit(:oops), else: n end

    assert [_, {2, {:failed, {:exit, :oops, _}}}, _] =
             Enum.to_list(ParallelMap.map(1..3, fn -> {2, work} end))

    refute_received _
  end

  test "tells the workers who called" do
    work = fn _ -> Process.get(:"$callers") end
    assert [{1, {:ok, [caller | _]}}] = Enum.to_list(ParallelMap.map([1], fn -> {1, work} end))
    assert caller == self()
  end

  defp ended(worker, result) do
    monitor = Process.monitor(worker)
    send(worker, {:end, result})
    assert_receive {:DOWN, ^monitor, :process, _, _reason}
  end

  defp refute_begun_beyond(n) do
    receive do
      {:begun, m, _worker} when m > n -> flunk("#{m} was begun beside #{n - 3}")
    after
      0 -> :ok
    end
  end

  defp pids(pids) do
    receive do
      pid when is_pid(pid) -> pids([pid | pids])
    after
      0 -> pids
    end
  end
end
