defmodule Image.ZeroShot.GateTest do
  use ExUnit.Case, async: true

  alias Image.ZeroShot.Serving.Gate

  @model %{max_batch: 4, concurrency: 1}
  @picture {:short, 16}

  # A process that goes in and stays until it is told to leave.
  defp visitor(gate, work) do
    test = self()

    pid =
      spawn_link(fn ->
        send(test, {:entered, self(), Gate.enter(gate, work, @model, 60_000)})
        receive do: (:leave -> send(test, {:left, self(), Gate.leave(gate)}))
        Process.sleep(:infinity)
      end)

    assert_receive {:entered, ^pid, outcome}
    {pid, outcome}
  end

  defp leave(pid) do
    send(pid, :leave)
    assert_receive {:left, ^pid, :ok}
  end

  # The work of one prompt takes a millisecond, and a batch 16.
  defp learn(gate), do: Gate.put_rates(gate, {1_000_000, 16_000_000, 16})

  test "tells how long the work takes, with that of those who are inside" do
    gate = Gate.new(10)
    assert Gate.last_ms(gate) == 0
    {_, {:ok, 0}} = visitor(gate, @picture)
    # Nothing is known.
    assert {pid, {:ok, 0}} = visitor(gate, @picture)
    leave(pid)

    learn(gate)
    assert Gate.last_ms(gate) == 32
    assert {pid, {:ok, 32}} = visitor(gate, @picture)
    assert {other, {:ok, 56}} = visitor(gate, {:short, 24})
    leave(pid)
    leave(other)
    assert {_, {:ok, 32}} = visitor(gate, @picture)
  end

  test "counts for who would be refused only the turns that come before" do
    gate = Gate.new(100)
    learn(gate)
    test = self()

    # 50 tasks of one process.
    spawn_link(fn ->
      for _ <- 1..50 do
        Task.async(fn ->
          send(test, Gate.enter(gate, @picture, @model, 60_000))
          Process.sleep(:infinity)
        end)
      end

      receive do
        {:enter, left} -> send(test, {:of_many, Gate.enter(gate, @picture, @model, left)})
      end

      Process.sleep(:infinity)
    end)
    |> then(fn many ->
      for _ <- 1..50, do: assert_receive({:ok, _ms})
      # All of them before it, as long as there is time for it.
      assert Gate.enter(gate, @picture, @model, 60_000) == {:ok, 51 * 16}
      Gate.leave(gate)
      # One of them before it.
      assert Gate.enter(gate, @picture, @model, 100) == {:ok, 2 * 16}
      Gate.leave(gate)
      send(many, {:enter, 100})
      assert_receive {:of_many, {:ok, ms}} when ms == 51 * 16
    end)
  end

  test "an empty one tells nobody to wait" do
    gate = Gate.new(10)
    learn(gate)

    for work <- [@picture, {:short, 100_000}, {:long, 64, 1_000}] do
      assert {pid, {:ok, 0}} = visitor(gate, work)
      leave(pid)
    end
  end

  test "lets a process in once" do
    gate = Gate.new(10)
    assert Gate.enter(gate) == :ok
    assert Gate.enter(gate) == :inside
    assert Gate.size(gate) == 1
    Gate.leave(gate)
    Gate.leave(gate)
    assert Gate.size(gate) == 0
  end

  test "bounds the prompts of long calls, but for the first, and not the others" do
    gate = Gate.new(4)
    assert Gate.max_prompts(4) == 64
    {first, {:ok, _}} = visitor(gate, {:long, 100, 3})
    {_, :too_many_prompts} = visitor(gate, {:long, 10, 1})
    assert {_, {:ok, _}} = visitor(gate, @picture)
    leave(first)
    assert {_, {:ok, _}} = visitor(gate, {:long, 50, 3})
    assert {_, :too_many_prompts} = visitor(gate, {:long, 50, 3})
    assert {_, {:ok, _}} = visitor(gate, {:long, 14, 3})
  end

  test "bounds the callers" do
    gate = Gate.new(2)
    for _ <- 1..2, do: assert({_, {:ok, _}} = visitor(gate, @picture))
    assert {_, :full} = visitor(gate, @picture)
    assert {_, :full} = visitor(gate, {:long, 64, 3})
    unbounded = Gate.new(:infinity)
    for _ <- 1..50, do: assert({_, {:ok, _}} = visitor(unbounded, {:long, 64, 3}))
  end

  test "is put right with each sweep, whatever strangers have done to it" do
    gate = Gate.new(10)
    learn(gate)
    {pid, _} = visitor(gate, @picture)
    stranger = spawn(fn -> :ok end)

    Task.await(
      Task.async(fn ->
        :ets.insert(gate.table, [{:nonsense, 1}, {stranger, {16, 0, 0}}, {self(), "no work"}])
        :ets.delete(gate.table, pid)
      end)
    )

    :atomics.put(gate.sums, 1, 1_000_000)
    Gate.sweep(gate)
    assert Gate.size(gate) == 0
    assert {_, {:ok, 0}} = visitor(gate, @picture)

    # Who was taken out leaves all the same, and no sum is below zero for those who come.
    leave(pid)
    :atomics.put(gate.sums, 1, -1_000_000)
    assert {_, {:ok, 0}} = visitor(gate, @picture)
    Gate.sweep(gate)
    assert {_, {:ok, 48}} = visitor(gate, @picture)
  end

  test "is gone with its owner, or when it is deleted" do
    test = self()
    {owner, monitor} = spawn_monitor(fn -> send(test, Gate.new(1)) end)
    assert_receive %Gate{} = gate
    assert_receive {:DOWN, ^monitor, :process, ^owner, _}
    assert Gate.enter(gate) == :gone
    assert Gate.leave(gate) == :ok
    refute Gate.open?(gate)
  end
end
