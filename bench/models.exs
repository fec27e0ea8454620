# What models cost: the processor time of a picture with known labels and of a new label, in ms, and the most memory.
#
#     mix run bench/models.exs DIRECTORY [DIRECTORY ...]
#     ROUNDS=5 PRECISION=int8 mix run bench/models.exs DIRECTORY
#
# Every round loads each model in a VM of its own, on one thread, since processor time of one thread hardly changes
# beside other jobs. Medians of the rounds, memory as the most of them. "Most memory" is the VM's (Linux): after a
# picture with five labels, and after 32 more labels too.
#
# Models with random weights take as long as trained ones: test/oracle/families.py full, test/oracle/full_size.py

defmodule Bench.Models do
  @moduledoc false

  alias Image.ZeroShot

  @labels ["a cat", "a dog", "a pizza", "a car", "a tree"]
  @new 32

  # In the child: prints what the parent reads.
  def main(["--child", directory]), do: IO.inspect(measure(directory))

  def main([_ | _] = directories) do
    # Their encoders are exported once, which is not what is measured.
    Enum.each(directories, &in_a_fresh_vm/1)

    rounds =
      for _ <- 1..rounds(), directory <- directories, do: {directory, in_a_fresh_vm(directory)}

    IO.puts("| model | a picture, ms | a new label, ms | most memory, MB | after 32 labels, MB |")
    IO.puts("| --- | --- | --- | --- | --- |")

    for directory <- directories do
      [picture, label, few, many] =
        Enum.zip_with(for({^directory, round} <- rounds, do: round), &Enum.sort/1)

      figures = [median(picture), median(label), List.last(few), List.last(many)]
      IO.puts("| #{Path.basename(directory)} | #{Enum.join(figures, " | ")} |")
    end
  end

  def main(_), do: Mix.raise("usage: mix run bench/models.exs DIRECTORY [DIRECTORY ...]")

  defp rounds, do: String.to_integer(System.get_env("ROUNDS") || "3")

  defp in_a_fresh_vm(directory) do
    arguments = ["run", "--no-compile", "bench/models.exs", "--child", directory]
    {output, 0} = System.cmd("mix", arguments)
    {[_, _, _, _] = measured, _binding} = Code.eval_string(output)
    measured
  end

  defp measure(directory) do
    precision = String.to_atom(System.get_env("PRECISION") || "f32")
    model = [repo: {:local, directory}, device: :cpu, precision: precision]
    :ok = ZeroShot.load([threads: 1] ++ model)
    picture = File.read!("priv/samples/dog.jpg")
    classify = fn -> ZeroShot.classify(picture, @labels, [timeout: :infinity] ++ model) end
    classify.()
    few = peak()
    picture = processor_time(fn -> for _ <- 1..10, do: classify.() end) / 10
    labels = for number <- 1..@new, do: "thing number #{number}"
    compile = fn -> ZeroShot.classifier(labels, [timeout: :infinity] ++ model) end
    [round(picture), Float.round(processor_time(compile) / @new, 1), few, peak()]
  end

  # Of this process, user and system, in steps of 10 ms.
  defp processor_time(function) do
    start = ticks()
    function.()
    10 * (ticks() - start)
  end

  defp ticks do
    [_, fields] = String.split(File.read!("/proc/self/stat"), ") ")
    [user, system] = fields |> String.split() |> Enum.slice(11, 2)
    String.to_integer(user) + String.to_integer(system)
  end

  defp peak do
    [_, kilobytes] = Regex.run(~r/VmHWM:\s+(\d+) kB/, File.read!("/proc/self/status"))
    div(String.to_integer(kilobytes) * 1_024, 1_000_000)
  end

  defp median(sorted), do: Enum.at(sorted, div(length(sorted), 2))
end

Bench.Models.main(System.argv())
