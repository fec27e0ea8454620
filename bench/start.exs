# How long a fresh VM takes to its first answer, and later ones, with everything cached; and the most memory
# it has held after 1,000 compiled labels, and after 64 pictures besides (Linux).
#
#     mix run bench/start.exs MODEL_DIRECTORY [PRECISION [ROUNDS]]
#
# A full-size model with random weights: python test/oracle/full_size.py DIRECTORY ViT-B-32

defmodule Bench.Start do
  @moduledoc false

  @labels ["a cat", "a dog", "a pizza", "a car", "a tree"]

  def main([directory]), do: main([directory, "f32"])
  def main([directory, precision]), do: main([directory, precision, "5"])

  # In the child: prints what the parent reads.
  def main(["--child", directory, precision]), do: IO.inspect(measure(directory, precision))

  def main([directory, precision, rounds]) do
    # The encoders are exported once, which is not what is measured.
    in_a_fresh_vm(directory, precision)
    rounds = for _ <- 1..String.to_integer(rounds), do: in_a_fresh_vm(directory, precision)
    [first, later, labels, pictures] = Enum.zip_with(rounds, &Function.identity/1)

    IO.puts(
      "first call of a fresh VM: median #{median(first)} ms of #{inspect(first, charlists: :as_lists)}"
    )

    IO.puts(
      "calls after it, 5 labels: median #{median(later)} ms of #{inspect(later, charlists: :as_lists)}"
    )

    for {after_what, peak} <- [{"1,000 labels", labels}, {"64 pictures besides", pictures}] do
      peaks = inspect(peak, charlists: :as_lists)
      IO.puts("most memory after #{after_what}: median #{median(peak)} MB of #{peaks}")
    end
  end

  def main(_),
    do: Mix.raise("usage: mix run bench/start.exs MODEL_DIRECTORY [PRECISION [ROUNDS]]")

  defp in_a_fresh_vm(directory, precision) do
    arguments = ["run", "--no-compile", "bench/start.exs", "--child", directory, precision]
    {output, 0} = System.cmd("mix", arguments)
    {[_, _, _, _] = measured, _binding} = Code.eval_string(output)
    measured
  end

  defp measure(directory, precision) do
    model = [repo: {:local, directory}, precision: String.to_atom(precision)]
    picture = File.read!("priv/samples/dog.jpg")
    classify = fn -> Image.ZeroShot.classify(picture, @labels, model) end
    first = time(classify)
    later = median(for(_ <- 1..9, do: time(classify)))
    labels = for number <- 1..1_000, do: "thing number #{number}"
    classifier = Image.ZeroShot.classifier(labels, [timeout: :infinity] ++ model)
    labelled = peak()
    picture |> List.duplicate(64) |> Image.ZeroShot.classify_many(classifier) |> Stream.run()
    [first, later, labelled, peak()]
  end

  defp peak do
    [_, kilobytes] = Regex.run(~r/VmHWM:\s+(\d+) kB/, File.read!("/proc/self/status"))
    div(String.to_integer(kilobytes), 1_000)
  end

  defp time(function) do
    {microseconds, _} = :timer.tc(function)
    div(microseconds, 1000)
  end

  defp median(values), do: values |> Enum.sort() |> Enum.at(div(length(values), 2))
end

Bench.Start.main(System.argv())
