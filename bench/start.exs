# How long a fresh VM takes to its first answer, and later ones, with everything cached.
#
#     mix run bench/start.exs MODEL_DIRECTORY
#
# A full-size model with random weights: python test/oracle/full_size.py DIRECTORY ViT-B-32

defmodule Bench.Start do
  @moduledoc false

  @rounds 5
  @labels ["a cat", "a dog", "a pizza", "a car", "a tree"]

  def main([directory]) do
    # The encoders are exported once, which is not what is measured.
    first_and_later(directory)
    rounds = for _ <- 1..@rounds, do: in_a_fresh_vm(directory)
    {first, later} = Enum.unzip(rounds)

    IO.puts(
      "first call of a fresh VM: median #{median(first)} ms of #{inspect(first, charlists: :as_lists)}"
    )

    IO.puts(
      "calls after it, 5 labels: median #{median(later)} ms of #{inspect(later, charlists: :as_lists)}"
    )
  end

  # In the child: prints what the parent reads.
  def main(["--child", directory]), do: IO.inspect(first_and_later(directory))

  def main(_), do: Mix.raise("usage: mix run bench/start.exs MODEL_DIRECTORY")

  defp in_a_fresh_vm(directory) do
    {output, 0} = System.cmd("mix", ["run", "bench/start.exs", "--child", directory])
    {{_, _} = times, _binding} = Code.eval_string(output)
    times
  end

  defp first_and_later(directory) do
    picture = File.read!("priv/samples/dog.jpg")
    classify = fn -> Image.ZeroShot.classify(picture, @labels, repo: {:local, directory}) end
    first = time(classify)
    {first, median(for(_ <- 1..9, do: time(classify)))}
  end

  defp time(function) do
    {microseconds, _} = :timer.tc(function)
    div(microseconds, 1000)
  end

  defp median(values), do: values |> Enum.sort() |> Enum.at(div(length(values), 2))
end

Bench.Start.main(System.argv())
