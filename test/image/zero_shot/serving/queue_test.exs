defmodule Image.ZeroShot.QueueTest do
  use ExUnit.Case, async: true

  alias Image.ZeroShot.Serving.{Pace, Queue, Request}

  # 64 prompts are a batch; more than 16 make a request a long one.
  @model %{max_batch: 4, concurrency: 1}
  @ms 1_000_000
  # A picture takes 160 ms, and a batch of four as many times as long.
  @pace %Pace{time: 640.0 * @ms, work: 64.0, batches: 1.0}
  @rates {10 * @ms, 640 * @ms, 64}

  # Requests are named by the caller's reference, and as old as their number says.
  defp request(name, more) do
    defaults = %{reply_to: name, deadline: :infinity, pixels: [], prompts: []}
    # Each has an owner of its own unless one is given.
    defaults = Map.merge(defaults, %{caller: self(), owner: make_ref()})
    since = System.unique_integer([:monotonic])
    struct!(Request, defaults |> Map.put(:since, since) |> Map.merge(Map.new(more)))
  end

  defp picture(name, more \\ []), do: request(name, [pixels: [<<0>>]] ++ more)
  defp part(name, more \\ []), do: request(name, [prompts: prompts(64)] ++ more)
  defp prompts(count), do: for(n <- 1..count, do: "prompt #{n}")
  defp queue(requests), do: Enum.reduce(requests, Queue.new(4), &Queue.push(&2, &1))
  defp in_ms(ms), do: System.monotonic_time(:millisecond) + ms

  defp batches(queue, pace \\ %Pace{}) do
    case Queue.pop_batch(queue, pace) do
      {[], queue} ->
        assert queue.length == 0
        assert queue.work == %{short: 0, long: 0, prompts: 0}
        []

      {batch, queue} ->
        [Enum.map(batch, & &1.reply_to) | batches(queue, pace)]
    end
  end

  test "requests with few prompts share batches, oldest first" do
    pictures = for n <- 1..9, do: picture(n)
    assert batches(queue(pictures)) == [[1, 2, 3, 4], [5, 6, 7, 8], [9]]
  end

  test "owners take turns, with short requests and with parts of long lists" do
    many = for n <- 1..6, do: picture(n, owner: :many)
    requests = many ++ [picture(:b1, owner: :b), picture(:b2, owner: :b), picture(:c)]
    assert batches(queue(requests)) == [[1, :b1, :c, 2], [:b2, 3, 4, 5], [6]]

    longs = for n <- 1..3, do: part({:long, n}, owner: :many)

    assert batches(queue(longs ++ [part(:other)])) == [
             [{:long, 1}],
             [:other],
             [{:long, 2}],
             [{:long, 3}]
           ]
  end

  test "a request waits for the turns of others, and not for all that they have in the queue" do
    many = for n <- 1..40, do: picture(n, owner: :many)
    queue = queue(many)
    late? = fn request, start -> Queue.late?(queue, request, start, @model, @rates) end
    # With one before it, it takes 320 ms. A quarter more has to fit.
    refute late?.(picture(:one, deadline: in_ms(500)), 0)
    assert late?.(picture(:one, deadline: in_ms(500)), 300)
    # One more of the same owner has 40 before it.
    assert late?.(picture(41, owner: :many, deadline: in_ms(5_000)), 0)

    {late, _queue} =
      Queue.take_late(Queue.push(queue, picture(:one, deadline: in_ms(500))), 0, @model, @rates)

    assert late == []
  end

  test "after a part of a long list comes a batch of others" do
    longs = for n <- 1..4, do: part({:long, n})

    assert batches(queue(longs ++ [picture(:small)])) == [
             [{:long, 1}],
             [:small],
             [{:long, 2}],
             [{:long, 3}],
             [{:long, 4}]
           ]
  end

  test "a long list has its turn when it is the oldest, however many others there are" do
    before = for n <- 1..4, do: picture(n)
    longs = [part(:one), part(:two)]
    behind = for n <- 5..12, do: picture(n)

    assert batches(queue(before ++ longs ++ behind)) ==
             [[1, 2, 3, 4], [:one], [5, 6, 7, 8], [:two], [9, 10, 11, 12]]
  end

  test "long requests share a batch where nobody else waits and there is room" do
    longs = for n <- 1..5, do: request(n, prompts: prompts(20))
    assert batches(queue(longs)) == [[1, 2, 3], [4, 5]]
    # One of them and whoever else waits.
    assert batches(queue(longs ++ [picture(:small)])) == [[1, :small, 2], [3, 4, 5]]
  end

  test "what failed together goes alone, before all else" do
    queue = queue([picture(4), part(5)])
    failed = [picture(1, since: -3), part(2, since: -2), picture(3, since: -1)]
    assert batches(Queue.push_back_alone(queue, failed)) == [[1], [2], [3], [4], [5]]
  end

  test "what nobody waits for is dropped and counted" do
    {gone, monitor} = spawn_monitor(fn -> :ok end)
    assert_receive {:DOWN, ^monitor, :process, ^gone, _}
    requests = [picture(1, caller: gone), part(2, deadline: in_ms(-1)), picture(3), part(4)]
    {[_], queue} = requests |> queue() |> Queue.pop_batch()
    assert queue.dropped == 2
    swept = requests |> queue() |> Queue.sweep()
    assert {swept.dropped, swept.length} == {2, 2}
    assert swept.work == %{short: 16, long: 1, prompts: 64}
  end

  test "a batch is no larger than what is done in time for each of its requests" do
    requests = [picture(1, deadline: in_ms(360)), picture(2), picture(3), picture(4)]
    assert batches(queue(requests), @pace) == [[1, 2], [3, 4]]
    requests = [picture(1), picture(2), picture(3, deadline: in_ms(360)), picture(4)]
    assert batches(queue(requests), @pace) == [[1, 2], [3, 4]]
    # However late, what is the oldest is begun.
    assert batches(queue([picture(1, deadline: in_ms(100)), picture(2)]), @pace) == [[1], [2]]
  end

  test "what would be done too late is taken out, and holds up nobody" do
    requests = [
      picture(1, deadline: in_ms(1_000)),
      picture(2, deadline: in_ms(300)),
      picture(3, deadline: in_ms(1_000)),
      picture(4),
      picture(5, deadline: in_ms(500))
    ]

    {late, queue} = requests |> queue() |> Queue.take_late(0, @model, @rates)
    assert late |> Enum.map(& &1.reply_to) |> Enum.sort() == [2, 5]
    assert Enum.map(Queue.to_list(queue), & &1.reply_to) == [1, 3, 4]
    assert {queue.length, queue.work.short} == {3, 48}

    # All of them, where the model is busy for longer.
    {late, queue} = requests |> queue() |> Queue.take_late(2_000, @model, @rates)
    assert length(late) == 4
    assert Enum.map(Queue.to_list(queue), & &1.reply_to) == [4]
  end

  test "judging a queue costs about the same for each request, however many callers wait" do
    reductions = fn count ->
      deadline = in_ms(1_000_000_000)
      queue = queue(for n <- 1..count, do: picture(n, deadline: deadline))
      {:reductions, before} = Process.info(self(), :reductions)
      assert {[], _queue} = Queue.take_late(queue, 0, @model, @rates)
      {:reductions, later} = Process.info(self(), :reductions)
      later - before
    end

    # Eight times as many take eight times as much, and not 64 times. Garbage collection counts too.
    assert reductions.(2_000) < 20 * reductions.(250)
  end

  test "nothing is too late where no pace is known, or its time is over already" do
    queue = queue([picture(1, deadline: in_ms(150)), picture(2, deadline: in_ms(-1))])
    assert {[], _} = Queue.take_late(queue, 0, @model, {0, 0, 0})
    assert {[%{reply_to: 1}], %{length: 1}} = Queue.take_late(queue, 0, @model, @rates)
  end
end
