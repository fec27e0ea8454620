# What an explanation costs beside a classification, in turn on one serving, and what the first one costs.
#
#     mix run bench/explain.exs DIRECTORY [ROUNDS]     # DIRECTORY: a model, or embedded
#
# A full-size model with random weights: python test/oracle/full_size.py DIRECTORY ViT-B-32

defmodule Bench.Explain do
  @moduledoc false

  @labels ["a cat", "a dog", "a pizza", "a car", "a tree"]

  def main([directory]), do: main([directory, "21"])

  def main([directory, rounds]) do
    repo = if directory == "embedded", do: :embedded, else: {:local, directory}
    picture = File.read!("priv/samples/dog.jpg")
    # Of the labels' prompts neither computes any: they are known.
    opts = [repo: repo]
    Image.ZeroShot.classify(picture, @labels, opts)

    {first, _} = :timer.tc(fn -> Image.ZeroShot.explain(picture, @labels, opts) end)
    IO.puts("first explanation: #{ms(first)} ms")

    contenders = [
      {"classify", fn -> Image.ZeroShot.classify(picture, @labels, opts) end},
      {"explain", fn -> Image.ZeroShot.explain(picture, @labels, opts) end},
      {"explain, one PNG",
       fn -> Image.ZeroShot.explain(picture, @labels, [format: :png, top_k: 1] ++ opts) end}
    ]

    for {_name, run} <- contenders, _ <- 1..3, do: run.()

    times =
      for _ <- 1..String.to_integer(rounds), {name, run} <- contenders do
        {time, _} = :timer.tc(run)
        {name, time}
      end

    by_name = Enum.group_by(times, &elem(&1, 0), &elem(&1, 1))
    base = median(by_name["classify"])

    for {name, _run} <- contenders do
      time = median(by_name[name])

      IO.puts(
        "#{String.pad_trailing(name, 18)} #{ms(time)} ms, #{Float.round(time / base, 2)} times"
      )
    end
  end

  def main(_), do: Mix.raise("usage: mix run bench/explain.exs DIRECTORY [ROUNDS]")

  defp ms(time), do: Float.round(time / 1000, 1)
  defp median(values), do: values |> Enum.sort() |> Enum.at(div(length(values), 2))
end

Bench.Explain.main(System.argv())
