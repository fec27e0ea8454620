# Pictures per second of a long list: one call after the other, calls at once, and classify_many/3.
#
#     mix run bench/many.exs MODEL_DIRECTORY PICTURE_DIRECTORY [ROUNDS [PICTURES]]
#
# The pictures of the directory are taken again and again until there are PICTURES (256). In each of
# ROUNDS (3) every way goes through all of them, in turn; medians, and ratios to the first way. The
# labels are the same throughout, so that the text tower runs in the first round's warm-up alone.

alias Image.ZeroShot

defmodule Bench.Many do
  @moduledoc false

  @labels ["a cat", "a dog", "a pizza", "a car", "a tree"]

  def main([model, directory]), do: main([model, directory, "3"])
  def main([model, directory, rounds]), do: main([model, directory, rounds, "256"])

  def main([model, directory, rounds, count]) do
    opts = [repo: {:local, model}, device: :cpu, timeout: :infinity]
    {files, _faults} = ZeroShot.CLI.Paths.expand([directory])

    pictures =
      files |> Stream.cycle() |> Enum.take(String.to_integer(count)) |> Enum.map(&{:path, &1})

    for {_name, way} <- ways(), do: way.(Enum.take(pictures, 8), opts)

    times =
      for _round <- 1..String.to_integer(rounds), {name, way} <- ways() do
        {microseconds, _} = :timer.tc(fn -> way.(pictures, opts) end)
        {name, length(pictures) * 1_000_000 / microseconds}
      end

    report(Enum.group_by(times, &elem(&1, 0), &elem(&1, 1)))
  end

  def main(_),
    do:
      Mix.raise(
        "usage: mix run bench/many.exs MODEL_DIRECTORY PICTURE_DIRECTORY [ROUNDS [PICTURES]]"
      )

  defp ways do
    [
      {"classify, one after the other", &one_by_one/2},
      {"classify in Task.async_stream/3", &at_once(&1, &2, System.schedulers_online())},
      {"the same, 32 at once", &at_once(&1, &2, 32)},
      {"classify_many", &many/2}
    ]
  end

  defp one_by_one(pictures, opts), do: Enum.each(pictures, &ZeroShot.classify(&1, @labels, opts))

  defp at_once(pictures, opts, count) do
    pictures
    |> Task.async_stream(&ZeroShot.classify(&1, @labels, opts),
      max_concurrency: count,
      timeout: :infinity
    )
    |> Stream.run()
  end

  defp many(pictures, opts) do
    for {_picture, result} <- ZeroShot.classify_many(pictures, @labels, opts),
        do: {:ok, _} = result
  end

  defp report(rates) do
    first = ways() |> hd() |> elem(0)

    for {name, _way} <- ways() do
      sorted = Enum.sort(rates[name])
      median = median(sorted)

      :io.format("~-34s ~7.1f pictures/s (~.1f to ~.1f), ratio ~.2f~n", [
        name,
        median,
        hd(sorted),
        List.last(sorted),
        median / median(Enum.sort(rates[first]))
      ])
    end
  end

  defp median(sorted), do: Enum.at(sorted, div(length(sorted), 2))
end

Bench.Many.main(System.argv())
