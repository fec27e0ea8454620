# What the model's threads and the rest of a busy VM cost each other: how late a timer is beside 300 callers,
# and how long one picture takes beside two Elixir processes that keep two cores busy.
#
#     mix run bench/neighbours.exs MODEL_DIRECTORY
#
# A full-size model with random weights: python test/oracle/full_size.py DIRECTORY ViT-B-32

defmodule Bench.Neighbours do
  @moduledoc false

  @callers 300
  @milliseconds 10_000
  @pictures 15
  @labels ["a cat", "a dog", "a pizza", "a car", "a tree"]

  def main([directory]) do
    model = [repo: {:local, directory}, timeout: 60_000]
    picture = File.read!("priv/samples/dog.jpg")
    classify = fn -> Image.ZeroShot.try_classify(picture, @labels, model) end
    for _ <- 1..5, do: classify.()

    alone = for _ <- 1..@pictures, do: time(classify)
    busy = with_busy(2, fn -> for _ <- 1..@pictures, do: time(classify) end)
    report("a picture alone", alone)
    report("beside two busy processes", busy)

    {answers, late} = beside_callers(classify)
    report("a timer beside #{@callers} callers", late)
    IO.puts("their answers: #{Float.round(answers / (@milliseconds / 1_000), 1)} a second")
  end

  def main(_), do: Mix.raise("usage: mix run bench/neighbours.exs MODEL_DIRECTORY")

  defp with_busy(count, work) do
    spinners = for _ <- 1..count, do: spawn_link(&spin/0)
    # Until each has a scheduler of its own.
    Process.sleep(500)
    result = work.()
    for pid <- spinners, do: Process.unlink(pid) && Process.exit(pid, :kill)
    result
  end

  defp spin, do: spin()

  defp beside_callers(classify) do
    answers = :counters.new(1, [:write_concurrency])

    callers =
      for _ <- 1..@callers do
        spawn_link(fn -> call(classify, answers) end)
      end

    Process.sleep(2_000)
    :counters.put(answers, 1, 0)
    late = lateness(now() + @milliseconds, [])
    count = :counters.get(answers, 1)
    for pid <- callers, do: Process.unlink(pid) && Process.exit(pid, :kill)
    {count, late}
  end

  defp call(classify, answers) do
    # Those that the queue refuses try again, as a user does.
    case classify.() do
      {:ok, _} -> :counters.add(answers, 1, 1)
      {:error, _} -> Process.sleep(20)
    end

    call(classify, answers)
  end

  defp lateness(until, late) do
    start = System.monotonic_time(:microsecond)
    Process.sleep(5)
    # A timer of 5 ms is due after the next full millisecond.
    more = (System.monotonic_time(:microsecond) - start - 6_000) / 1_000
    if now() < until, do: lateness(until, [max(more, 0.0) | late]), else: late
  end

  defp now, do: System.monotonic_time(:millisecond)

  defp time(work) do
    {microseconds, _} = :timer.tc(work)
    microseconds / 1_000
  end

  defp report(name, times) do
    sorted = Enum.sort(times)
    at = fn part -> Enum.at(sorted, min(length(sorted) - 1, floor(part * length(sorted)))) end

    [median, p99, most] =
      for value <- [at.(0.5), at.(0.99), List.last(sorted)], do: Float.round(value / 1, 1)

    IO.puts("#{name}: median #{median} ms, p99 #{p99} ms, at most #{most} ms")
  end
end

Bench.Neighbours.main(System.argv())
