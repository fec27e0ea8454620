# How concurrency, threads and the size of batches change what a serving does.
#
#     mix run bench/serving.exs DIRECTORY [ROUNDS]
#
# Each variant is loaded, measured and unloaded in turn, ROUNDS times over. `alone` is one caller
# after the other, `together` 32 callers at once for ten seconds; each asks for the embedding of one
# picture that is preprocessed already. Medians over the rounds; ratios to the first variant.

alias Image.ZeroShot
alias Image.ZeroShot.Call.Options

{directory, rounds} =
  case System.argv() do
    [directory] -> {directory, 3}
    [directory, rounds] -> {directory, String.to_integer(rounds)}
    _ -> raise "usage: mix run bench/serving.exs DIRECTORY [ROUNDS]"
  end

cores = System.schedulers_online()

variants = [
  [concurrency: 1, threads: cores, max_batch: 16 * cores],
  [concurrency: 1, threads: cores, max_batch: 16],
  [concurrency: 1, threads: cores, max_batch: 1],
  [concurrency: 1, threads: cores, max_batch: 4],
  [concurrency: 1, threads: cores, max_batch: 8],
  [concurrency: cores, threads: 1, max_batch: 1],
  [concurrency: cores, threads: 1, max_batch: 4],
  [concurrency: cores, threads: 1, max_batch: 16],
  [concurrency: cores, threads: cores, max_batch: 8]
]

model = [repo: {:local, directory}, device: :cpu]

defmodule Bench do
  alias Image.ZeroShot.Serving.Client

  @needs %{pictures: 1, decoded_here: 0, prompts: [], parts: 1}

  def call(opts, pixels) do
    started = System.monotonic_time(:microsecond)
    {:ok, lease} = Client.checkout(opts, @needs)
    {:ok, _} = Client.run(lease, [pixels], [])
    :ok = Client.checkin(lease)
    (System.monotonic_time(:microsecond) - started) / 1000
  end

  def until(opts, pixels, ending, times \\ []) do
    if System.monotonic_time(:millisecond) < ending,
      do: until(opts, pixels, ending, [call(opts, pixels) | times]),
      else: times
  end

  def median(list), do: list |> Enum.sort() |> Enum.at(div(length(list), 2))
  def quantile(list, q), do: list |> Enum.sort() |> Enum.at(trunc(q * (length(list) - 1)))
end

measure = fn variant ->
  :ok = ZeroShot.load(model ++ variant)
  {:ok, info} = ZeroShot.info(model)
  opts = Options.model!(model ++ [timeout: :infinity])
  pixels = :crypto.strong_rand_bytes(3 * info.image_size ** 2)
  for _ <- 1..3, do: Bench.call(opts, pixels)
  alone = for _ <- 1..20, do: Bench.call(opts, pixels)
  seconds = 10
  ending = System.monotonic_time(:millisecond) + seconds * 1000

  times =
    1..32
    |> Enum.map(fn _ -> Task.async(fn -> Bench.until(opts, pixels, ending) end) end)
    |> Task.await_many(:infinity)
    |> List.flatten()

  :ok = ZeroShot.unload(model)
  {Bench.median(alone), length(times) / seconds, Bench.median(times), Bench.quantile(times, 0.99)}
end

results =
  for _ <- 1..rounds, variant <- variants, reduce: %{} do
    all ->
      measured = measure.(variant)
      Map.update(all, variant, [measured], &[measured | &1])
  end

medians =
  Map.new(results, fn {variant, runs} ->
    {variant, for(i <- 0..3, do: Bench.median(Enum.map(runs, &elem(&1, i))))}
  end)

[alone1, rate1 | _] = medians[hd(variants)]

IO.puts(
  "concurrency threads max_batch | alone ms (ratio) | together pictures/s (ratio), ms p50, p99"
)

for variant <- variants do
  [alone, rate, p50, p99] = medians[variant]

  :io.format("~6w ~7w ~9w | ~7.1f (~4.2f) | ~6.1f (~4.2f) ~7.1f ~7.1f~n", [
    variant[:concurrency],
    variant[:threads],
    variant[:max_batch],
    alone,
    alone / alone1,
    rate,
    rate / rate1,
    p50,
    p99
  ])
end
