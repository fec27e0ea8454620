# This library beside others, task by task, one at a time, in turn.
#
#     python bench/peers.py images IMAGES_DIR
#     python bench/peers.py export MODEL_DIR ONNX_DIR
#     PYTHON=python mix run bench/peers.exs MODEL_DIR ONNX_DIR IMAGES_DIR [ROUNDS] [PEER ...]
#
# The model is a CLIP, or a SigLIP, whose 1,000 new labels take a minute: LABELS=128 asks for fewer, and
# TASKS=new,thousand leaves out other tasks.
#
# On a machine that others use, THREADS=1 CLOCK=processor measures the processor time of one thread each. With more
# threads that says little, as those of most peers wait in a loop.
#
# Every round gives each task to each contender, in an order that changes. Files are in the page
# cache, models are loaded, all compute on all cores. Medians in milliseconds. A ratio is ours to the best
# peer's: in f32; of `precision: :auto` and OpenVINO as it comes, which chooses a precision too; and in int8.
# PRECISIONS=f32,auto leaves out int8.

defmodule Bench.Peers do
  @moduledoc false

  alias Image.ZeroShot

  # With whom each of our precisions is compared.
  @groups [
    f32: ~w(transformers onnxruntime openvino),
    auto: ~w(openvino-default),
    int8: ~w(onnxruntime-int8)
  ]

  # Task, what the peers call it, rounds between which it is left out since it takes seconds, and
  # what it is.
  @tasks [
    {:new, "labels", 1, "picture of 640x480, 5 new labels"},
    {:seen, "labels", 1, "the same, labels seen before"},
    {:thousand, "labels", 4, "the same picture, 1,000 new labels"},
    {:compiled, "compiled", 1, "the same picture, 1,000 compiled labels"},
    {:big, "big", 1, "picture of 4000x3000, 1,000 compiled labels"},
    {:many, "many_pictures", 4, "256 pictures of 640x480, 1,000 compiled labels"}
  ]

  @words ~w(red blue old young big small wooden round quiet broken dog cat horse car tree house
            river bridge cup table lamp window flower mountain road ship train bird fish stone)

  def main([model, onnx, images | more]) do
    {rounds, wanted} =
      case more do
        [] -> {8, nil}
        [rounds] -> {String.to_integer(rounds), nil}
        [rounds | peers] -> {String.to_integer(rounds), peers}
      end

    groups =
      for {precision, peers} <- @groups,
          "#{precision}" in precisions(),
          do: {precision, Enum.filter(peers, &(wanted == nil or &1 in wanted))}

    contenders =
      for {precision, peers} <- groups,
          contender <- [
            {"ours #{precision}", ours(precision, model, images)}
            | Enum.map(peers, &{&1, peer(&1, model, onnx, images)})
          ],
          do: contender

    for {_name, run} <- contenders, do: run.(:compile, "compile", labels(many(), 0))

    results =
      for round <- 1..rounds,
          {task, theirs, every, _what} <- tasks(),
          rem(round - 1, every) == 0,
          {name, run} <- Enum.shuffle(contenders) do
        # The core was idle, or kept by the threads of the one before, which wait in a loop.
        run.(:compiled, "compiled", [])
        run.(:compiled, "compiled", [])

        {{task, name},
         run.(task, theirs, labels(if(task == :thousand, do: many(), else: 5), round))}
      end

    print(Enum.group_by(results, &elem(&1, 0), &elem(&1, 1)), groups)
  end

  def main(_),
    do: Mix.raise("usage: mix run bench/peers.exs MODEL ONNX IMAGES [ROUNDS] [PEER ...]")

  defp precisions, do: String.split(System.get_env("PRECISIONS") || "f32,auto,int8", ",")

  defp many, do: String.to_integer(System.get_env("LABELS") || "1000")

  defp tasks do
    case System.get_env("TASKS") do
      nil -> @tasks
      names -> for {task, _, _, _} = row <- @tasks, "#{task}" in String.split(names, ","), do: row
    end
  end

  # Of one to three words, as people have them; other ones in every round. All differ, as only this library
  # embeds equal ones once.
  defp labels(count, round) do
    :rand.seed(:exsss, {count, round, 7})

    fn -> 1..:rand.uniform(3) |> Enum.map_join(" ", fn _ -> Enum.random(@words) end) end
    |> Stream.repeatedly()
    |> Stream.uniq()
    |> Enum.take(count)
  end

  defp ours(precision, directory, images) do
    model = [repo: {:local, directory}, device: :cpu, precision: precision]
    name = Module.concat(__MODULE__, "Seen#{precision}")
    # One without a memory of prompts, so that new labels are new in every round.
    :ok = ZeroShot.load([max_cached_prompts: 0] ++ threads() ++ model)
    {:ok, _} = ZeroShot.Serving.start_link([name: name] ++ threads() ++ model)
    seen = [serving: name, timeout: :infinity]
    new = model ++ [timeout: :infinity]
    compiled = ZeroShot.classifier(labels(many(), 0), seen)
    middle = {:path, Path.join(images, "mid.jpg")}
    big = {:path, Path.join(images, "big.jpg")}
    many = images |> Path.join("many/*.jpg") |> Path.wildcard() |> Enum.map(&{:path, &1})

    tasks = %{
      compile: fn _ -> :ok end,
      new: fn labels -> ZeroShot.classify(middle, labels, new) end,
      thousand: fn labels -> ZeroShot.classify(middle, labels, new) end,
      seen: fn _ -> ZeroShot.classify(middle, labels(5, 0), seen) end,
      compiled: fn _ -> ZeroShot.classify(middle, compiled) end,
      big: fn _ -> ZeroShot.classify(big, compiled) end,
      many: fn _ -> many |> ZeroShot.classify_many(compiled, top_k: 5) |> Stream.run() end
    }

    ZeroShot.classify(middle, labels(5, 0), seen)
    fn task, _theirs, labels -> time(fn -> tasks[task].(labels) end) end
  end

  defp threads do
    case System.get_env("THREADS") do
      nil -> []
      number -> [threads: String.to_integer(number)]
    end
  end

  defp time(run) do
    start = now()
    run.()
    now() - start
  end

  # Milliseconds on the clock, or of the processor in this process: user and system time in steps of 10.
  defp now do
    case System.get_env("CLOCK") do
      nil ->
        System.monotonic_time() / System.convert_time_unit(1, :millisecond, :native)

      "processor" ->
        [_, fields] = String.split(File.read!("/proc/self/stat"), ") ")
        [user, system] = fields |> String.split() |> Enum.slice(11, 2)
        10.0 * (String.to_integer(user) + String.to_integer(system))
    end
  end

  defp peer(name, model, onnx, images) do
    python = System.find_executable(System.get_env("PYTHON") || "python3")
    arguments = [Path.join(__DIR__, "peers.py"), name, model, onnx, images]
    options = [:binary, :exit_status, line: 1_000, args: arguments]
    port = Port.open({:spawn_executable, python}, options)
    "ready" = line(port)

    fn _task, theirs, labels ->
      file = Path.join(System.tmp_dir!(), "labels-#{System.pid()}.txt")
      File.write!(file, Enum.join(labels, "\n"))
      Port.command(port, "#{theirs} #{file}\n")
      port |> line() |> Float.parse() |> elem(0)
    end
  end

  # What else a library prints is not an answer.
  defp line(port) do
    receive do
      {^port, {:data, {:eol, line}}} ->
        if line =~ ~r/^(ready|[\d.]+)$/, do: line, else: line(port)

      {^port, {:exit_status, status}} ->
        Mix.raise("the peer ended with status #{status}")
    after
      600_000 -> Mix.raise("the peer does not answer")
    end
  end

  defp print(times, groups) do
    names = for {precision, peers} <- groups, name <- ["ours #{precision}" | peers], do: name
    ratios = for {precision, _} <- groups, do: "ratio #{precision}"
    IO.puts("| task | #{Enum.join(names ++ ratios, " | ")} |")
    IO.puts("| --- |#{String.duplicate(" --- |", length(names ++ ratios))}")

    for {task, _theirs, _every, what} <- tasks() do
      medians = for name <- names, into: %{}, do: {name, median(times[{task, name}])}

      ratios =
        for {precision, peers} <- groups do
          best = peers |> Enum.map(&medians[&1]) |> Enum.min(fn -> nil end)
          best && :erlang.float_to_binary(medians["ours #{precision}"] / best, decimals: 2)
        end

      times = for name <- names, do: :erlang.float_to_binary(medians[name], decimals: 1)
      what = if many() == 1_000, do: what, else: String.replace(what, "1,000", "#{many()}")
      IO.puts("| #{what} | #{Enum.join(times ++ ratios, " | ")} |")
    end
  end

  defp median(values), do: values |> Enum.sort() |> Enum.at(div(length(values), 2))
end

Bench.Peers.main(System.argv())
