# Relabelling stored embeddings, interleaved with numpy's matrix product: the figures of bench/README.md.
#
#     MIX_ENV=prod mix run bench/embeddings.exs [COUNT] [LABELS] [PYTHON]
#
# Makes COUNT (1,000,000) random unit vectors of 512 dimensions and a classifier of LABELS (1,000) of them,
# which takes 4 KB for each embedding. PYTHON, with numpy, multiplies the same shapes in the same parts.

defmodule Bench.Embeddings do
  @moduledoc false

  alias Image.ZeroShot
  alias Image.ZeroShot.{Classifier, Embedding}

  @dim 512
  @rounds 3

  def main(arguments) do
    {count, labels, python} = arguments(arguments)
    :ok = ZeroShot.load(repo: :embedded)
    model = %{name: "bench", commit: "bench", dim: @dim, logit_scale: 100.0, logit_bias: nil}
    pool = for _ <- 1..1_000, do: Embedding.new(row(), model, :picture)
    embeddings = Stream.cycle(pool) |> Enum.take(count)
    classifier = classifier(labels, model)

    for round <- 1..@rounds do
      for opts <- [[top_k: 1], [top_k: 1, scores: :cosine], [top_k: 5]] do
        {taken, cpu, _} = time(fn -> run(embeddings, classifier, opts) end)
        report(round, inspect(opts), count, taken, cpu)
      end

      if python, do: numpy(round, python, count, labels)
    end
  end

  defp arguments(arguments) do
    [count, labels, python] = Enum.take(arguments ++ [nil, nil, nil], 3)
    {String.to_integer(count || "1000000"), String.to_integer(labels || "1000"), python}
  end

  defp run(embeddings, classifier, opts) do
    embeddings
    |> ZeroShot.classify_many(classifier, [repo: :embedded] ++ opts)
    |> Enum.reduce(0, fn {_, {:ok, [_ | _]}}, done -> done + 1 end)
  end

  # Rows instead of prompts: no model is measured here.
  defp classifier(count, model) do
    %Classifier{
      labels: List.to_tuple(for(n <- 1..count, do: "label #{n}")),
      texts: for(_ <- 1..count, into: <<>>, do: row()),
      model: model,
      truncated: [],
      probe: {"a photo", row()},
      template: [nil],
      opts: []
    }
  end

  defp row do
    values = for _ <- 1..@dim, do: :rand.normal()
    length = :math.sqrt(Enum.sum(Enum.map(values, &(&1 * &1))))
    for x <- values, into: <<>>, do: <<x / length::float-32-native>>
  end

  defp time(function) do
    {_, before} = cpu()
    {taken, result} = :timer.tc(function)
    {_, later} = cpu()
    {taken / 1.0e6, later - before, result}
  end

  # The processor time of this process, in seconds: on a busy machine the clock tells of others too.
  defp cpu do
    fields =
      "/proc/self/stat" |> File.read!() |> String.split(") ") |> List.last() |> String.split()

    [user, system] = fields |> Enum.slice(11, 2) |> Enum.map(&String.to_integer/1)
    {:ok, (user + system) / 100}
  end

  defp report(round, name, count, seconds, cpu) do
    rate = round(count / seconds)
    each = Float.round(cpu / count * 1.0e6, 1)

    IO.puts(
      "#{round} #{name}: #{Float.round(seconds, 2)} s, #{rate} a second, #{each} us of CPU each"
    )
  end

  defp numpy(round, python, count, labels) do
    code = """
    import time, numpy as np
    part = np.random.rand(4096, #{@dim}).astype("f")
    labels = np.random.rand(#{labels}, #{@dim}).astype("f")
    part @ labels.T
    start, cpu = time.time(), time.process_time()
    for _ in range(#{div(count, 4096)}): (part @ labels.T)
    print(time.time() - start, time.process_time() - cpu)
    product = part @ labels.T
    start, cpu = time.time(), time.process_time()
    for _ in range(#{div(count, 4096)}): (part @ labels.T).argmax(axis=1)
    print(time.time() - start, time.process_time() - cpu)
    """

    {out, 0} = System.cmd(python, ["-c", code])

    for {name, line} <-
          Enum.zip(["numpy, product", "numpy, product and argmax"], String.split(out, "\n")) do
      [seconds, cpu] = line |> String.split() |> Enum.map(&String.to_float/1)
      report(round, name, div(count, 4096) * 4096, seconds, cpu)
    end
  end
end

Bench.Embeddings.main(System.argv())
