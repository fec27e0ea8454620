# What a serving on another node costs, what a second one gains, and what the loss of one does to callers.
#
#     MIX_ENV=test mix run bench/cluster.exs [DIRECTORY [ROUNDS]]
#
# Nodes are `:peer`s on the loopback interface of this machine, so a network is not in the figures. Where the
# model is not the point, a stand-in takes its place that needs 0 or 100 ms for a batch of up to 16 and no
# processor, as if a GPU computed. With DIRECTORY, a call with its model (embedded by default) is timed too. What is
# compared is taken in turn, ROUNDS times (5); medians.

alias Image.ZeroShot
alias Image.ZeroShot.Serving.{Client, Directory}
alias Image.ZeroShot.Test.{Cluster, Runner}

{repo, rounds} =
  case System.argv() do
    [] -> {:embedded, 5}
    [directory] -> {{:local, directory}, 5}
    [directory, rounds] -> {{:local, directory}, String.to_integer(rounds)}
  end

device = """
defmodule Bench.Device do
  @behaviour Image.ZeroShot.Serving.Runner
  def key(opts), do: opts.id
  def open(opts), do: {:ok, opts, opts.info}
  def close(_opts), do: :ok

  def encode(opts, tag, pixels, _prompts) do
    Process.send_after(self(), {tag, {:ok, {:binary.copy(<<0::32>>, length(pixels)), <<>>, []}}}, opts.batch_ms)
    :ok
  end
end
"""

[{_module, _beam}] = Code.compile_string(device)

defmodule Bench do
  @needs %{pictures: 1, decoded_here: 0, prompts: [], parts: 1}

  def call(opts, pixels) do
    with {:ok, lease} <- Client.checkout(opts, @needs) do
      try do
        Client.run(lease, [pixels], [])
      after
        Client.checkin(lease)
      end
    end
  end

  # The result of a function, and its milliseconds.
  def time(function) do
    started = now()
    result = function.()
    {result, now() - started}
  end

  def now, do: System.monotonic_time(:microsecond) / 1_000
  def median(list), do: list |> Enum.sort() |> Enum.at(div(length(list), 2))

  def shown(times) do
    tenth = times |> Enum.sort() |> Enum.at(div(length(times), 10))
    "#{Float.round(median(times), 2)} | #{Float.round(tenth, 2)}"
  end

  # Callers that ask again and again until `ending`: `{reason, milliseconds, when}` of each call.
  def callers(count, opts, pixels, ending) do
    1..count
    |> Enum.map(fn _ -> Task.async(fn -> loop(opts, pixels, ending, []) end) end)
    |> Task.await_many(:infinity)
    |> List.flatten()
  end

  defp loop(opts, pixels, ending, done) do
    if now() < ending do
      {result, ms} = time(fn -> call(opts, pixels) end)
      reason = if match?({:ok, _}, result), do: :ok, else: elem(result, 1).reason
      # Whoever finds no node would only measure how fast that is said.
      if reason == :serving_down, do: Process.sleep(10)
      loop(opts, pixels, ending, [{reason, ms, now()} | done])
    else
      done
    end
  end
end

Cluster.distribute()

node! = fn ->
  {peer, ms} = Bench.time(&Cluster.start/0)
  :peer.call(peer.control, Code, :compile_string, [device])
  {peer, ms}
end

# Directory and node agree a moment after a serving has started.
seen! = fn name, count ->
  Enum.find(1..500, fn _ ->
    length(Directory.others({:name, name})) == count || (Process.sleep(20) && false)
  end) || raise "#{name} is not seen on #{count} nodes"
end

stand_in = fn name, batch_ms ->
  Runner.opts(
    runner: Bench.Device,
    id: name,
    serving: name,
    batch_ms: batch_ms,
    info: [max_batch: 16]
  )
end

serve = fn peer, name, batch_ms ->
  opts = stand_in.(name, batch_ms)
  {:ok, _} = :peer.call(peer.control, Cluster, :serve_here, [name, opts], 60_000)
end

{one, started1} = node!.()
{two, started2} = node!.()
# 224 x 224, as ViT-B/32 takes them.
pixels = :crypto.strong_rand_bytes(3 * 224 * 224)

IO.puts("Start of a node with the library: #{round(started1)} and #{round(started2)} ms\n")

# One caller.
here = stand_in.(:bench_here, 0)
{:ok, _} = Cluster.serve_here(:bench_here, here)
serve.(one, :bench_there, 0)
seen!.(:bench_there, 1)
there = stand_in.(:bench_there, 0)
small = binary_part(pixels, 0, 3 * 64 * 64)

variants = [
  {"own node", here, pixels},
  {"other node, 150 KB", there, pixels},
  {"other node, 12 KB", there, small}
]

for {_, opts, pixels} <- variants, _ <- 1..50, do: Bench.call(opts, pixels)

latencies =
  for _ <- 1..(rounds * 100), {name, opts, pixels} <- Enum.shuffle(variants), reduce: %{} do
    all ->
      {{:ok, _}, ms} = Bench.time(fn -> Bench.call(opts, pixels) end)
      Map.update(all, name, [ms], &[ms | &1])
  end

IO.puts("| serving, no model | a call, ms | the fastest tenth at most |\n| --- | --- | --- |")

for {name, _, _} <- variants,
    do: IO.puts("| #{name} | #{Bench.shown(latencies[name])} |")

# The same with a model and a picture.
photo = File.read!("priv/samples/dog.jpg")
labels = ["a cat", "a dog", "a pizza"]
model = [repo: repo, device: :cpu]

{{:ok, _}, load_here} =
  Bench.time(fn ->
    DynamicSupervisor.start_child(
      Directory.supervisor(),
      {ZeroShot.Serving, [name: :bench_model_here] ++ model}
    )
  end)

child = {ZeroShot.Serving, [name: :bench_model_there] ++ model}

{{:ok, _}, load_there} =
  Bench.time(fn ->
    :peer.call(
      one.control,
      DynamicSupervisor,
      :start_child,
      [Directory.supervisor(), child],
      300_000
    )
  end)

seen!.(:bench_model_there, 1)
servings = [:bench_model_here, :bench_model_there]

for name <- servings,
    _ <- 1..3,
    do: ZeroShot.classify(photo, labels, serving: name, timeout: :infinity)

times =
  for _ <- 1..(rounds * 10), name <- servings, reduce: %{} do
    all ->
      {_, ms} =
        Bench.time(fn -> ZeroShot.classify(photo, labels, serving: name, timeout: :infinity) end)

      Map.update(all, name, [ms], &[ms | &1])
  end

IO.puts(
  "\n| #{inspect(repo)} | a call, ms | the fastest tenth at most | load, ms |\n| --- | --- | --- | --- |"
)

for {name, load} <- Enum.zip(servings, [load_here, load_there]),
    do: IO.puts("| #{name} | #{Bench.shown(times[name])} | #{round(load)} |")

# 64 callers, one node and two.
serve.(one, :bench_one, 100)
for peer <- [one, two], do: serve.(peer, :bench_two, 100)
seen!.(:bench_one, 1)
seen!.(:bench_two, 2)
seconds = 4

rates =
  for _ <- 1..rounds, name <- [:bench_one, :bench_two], reduce: %{} do
    all ->
      done = Bench.callers(64, stand_in.(name, 100), pixels, Bench.now() + seconds * 1_000)
      figures = {length(done) / seconds, done |> Enum.map(&elem(&1, 1)) |> Bench.median()}
      Map.update(all, name, [figures], &[figures | &1])
  end

IO.puts("\n| 64 callers, 100 ms a batch of 16 | pictures/s | p50, ms |\n| --- | --- | --- |")

for {name, title} <- [bench_one: "one node", bench_two: "two nodes"] do
  {rate, p50} = Enum.unzip(rates[name])
  IO.puts("| #{title} | #{round(Bench.median(rate))} | #{round(Bench.median(p50))} |")
end

# A node is killed among 32 callers: first one of two, then the last.
for {title, peer} <- [{"one of two nodes killed", one}, {"the last node killed", two}] do
  task =
    Task.async(fn ->
      Bench.callers(32, stand_in.(:bench_two, 100), pixels, Bench.now() + 5_000)
    end)

  Process.sleep(2_000)
  Cluster.signal(peer, "-KILL")
  killed = Bench.now()
  done = Task.await(task, :infinity)
  outcomes = done |> Enum.frequencies_by(&elem(&1, 0)) |> inspect()
  longest = for {:ok, ms, _} <- done, do: ms
  lost = for {reason, _, at} <- done, reason != :ok, do: at - killed
  told = if lost != [], do: ", the first #{round(Enum.min(lost))} ms after it"

  IO.puts(
    "\n#{title}: #{outcomes}#{told}; the longest call that succeeded #{round(Enum.max(longest))} ms"
  )
end

Enum.each([one, two], &Cluster.stop/1)
