# All tables of this folder that need no special machine, one after the other, and a picture of the ratios to peers.
#
#     PYTHON=python mix run bench/all.exs FOLDER [ROUNDS]
#     mix run bench/all.exs --draw bench/results/FILE.md
#
# FOLDER keeps the model, a full-size ViT-B/32 with random weights, its ONNX files and the pictures; what is missing
# is made first (2 GB, some minutes). PYTHON has torch, transformers, onnx, onnxruntime, openvino, tokenizers,
# pillow, numpy, faiss-cpu, usearch and hf-processors-rs. Let no other job run. ONLY=peers,start takes some of the
# tables, and the variables of each script hold: TASKS=compiled is one row of bench/peers.exs.
#
# Writes what the commands print and the picture to bench/results, under the date. A command that fails, for example
# because a package is missing, is reported in its section and at the end. bench/search.exs draws its own picture.
# --draw draws bench/ratios.svg, the picture of README, from results that are worth it.
#
# Not here: bin/check-gpu needs a GPU; bench/precision.exs and bench/few_shot.exs need pictures with labels;
# bench/labels.exs and bench/walk.exs time nothing.

Code.require_file("chart.exs", __DIR__)

defmodule Bench.All do
  @moduledoc false

  # What matters of a processor's flags.
  @flags ~r/^(sse4_2|avx\w*|fma|f16c|amx\w*|asimd\w*|bf16|i8mm|sve\w*)$/

  def main(["--draw", file]), do: draw(file, "bench/ratios.svg")
  def main(["--" <> _ | _]), do: usage()
  def main([folder]), do: main([folder, "5"])

  def main([folder, rounds]) do
    for {path, command} <- inputs(folder), not File.exists?(path), do: make!(command)
    file = "bench/results/#{Calendar.strftime(NaiveDateTime.local_now(), "%Y-%m-%d-%H%M")}.md"
    File.mkdir_p!("bench/results")
    File.write!(file, head(rounds))
    steps = Enum.filter(steps(folder, rounds), fn [_, script | _] -> wanted?(script) end)
    failed = Enum.filter(steps, &(run(&1, file) != 0))

    if Enum.any?(steps -- failed, &("peers.exs" in &1)),
      do: draw(file, Path.rootname(file) <> ".svg")

    IO.puts("\nwritten: #{file}")
    if failed != [], do: Mix.raise("failed: #{Enum.map_join(failed, ", ", &Enum.at(&1, 1))}")
  end

  def main(_), do: usage()

  defp usage, do: Mix.raise("usage: mix run bench/all.exs FOLDER [ROUNDS], or --draw FILE")

  # What is measured, and what makes it.
  defp inputs(folder) do
    [
      {model(folder), ["test/oracle/full_size.py", folder, "ViT-B-32"]},
      {images(folder), ["bench/peers.py", "images", images(folder)]},
      {onnx(folder), ["bench/peers.py", "export", model(folder), onnx(folder)]}
    ]
  end

  # A title, the script, and its arguments.
  defp steps(folder, rounds) do
    {model, images} = {model(folder), images(folder)}
    few = "#{max(div(String.to_integer(rounds), 2), 1)}"
    big = Path.join(images, "big.jpg")

    [
      ["Against other libraries", "peers.exs", model, onnx(folder), images, rounds],
      ["First answer and memory, f32", "start.exs", model, "f32", rounds],
      ["First answer and memory, auto", "start.exs", model, "auto", rounds],
      ["First answer and memory, int8", "start.exs", model, "int8", rounds],
      ["Explanations", "explain.exs", model, rounds],
      ["Many pictures", "many.exs", model, Path.join(images, "many"), few],
      ["Neighbours in the VM", "neighbours.exs", model],
      ["Settings of a serving", "serving.exs", model, few],
      ["Pixels", "pictures.py", big, Path.join(images, "mid.jpg")],
      ["What `decode: :fast` loses", "fast.exs", model, big],
      ["Relabelling stored embeddings", "embeddings.exs", "100000", "1000", python()],
      ["Search", "search.exs", rounds, "1000", "10000", "100000", "1000000"],
      ["Several nodes", "cluster.exs", model, rounds],
      ["PostgreSQL", "postgres.exs", "20000", few]
    ]
  end

  defp wanted?(script) do
    case System.get_env("ONLY") do
      nil -> true
      names -> Path.rootname(script) in String.split(names, ",")
    end
  end

  defp model(folder), do: Path.join(folder, "ViT-B-32")
  defp images(folder), do: Path.join(folder, "images")
  defp onnx(folder), do: Path.join(folder, "onnx")

  defp python do
    name = System.get_env("PYTHON") || "python3"
    System.find_executable(name) || Mix.raise("expected PYTHON to be a program, got: #{name}")
  end

  defp make!(arguments) do
    IO.puts("#{Enum.join(["python" | arguments], " ")} ...")
    {_output, status} = System.cmd(python(), arguments)
    if status != 0, do: Mix.raise("#{hd(arguments)} ended with status #{status}")
  end

  # Adds what a command prints to the file, and returns its status. What it tells of errors goes to the terminal.
  defp run([title, script | arguments], file) do
    path = Path.join("bench", script)
    shown = Enum.join([path | Enum.map(arguments, &Path.basename/1)], " ")
    IO.puts("\n#{shown} ...")
    load = load()

    {program, arguments} =
      case Path.extname(script) do
        ".exs" -> {"mix", ["run", path | arguments]}
        ".py" -> {python(), [path | arguments]}
      end

    {output, status} = System.cmd(program, arguments, env: environment(script))
    output = if output =~ ~r/^\| ---/m, do: output, else: "```\n#{output}```\n"
    told = if status == 0, do: "", else: "\nIt ended with status #{status}.\n"
    section = "\n## #{title}\n\n`#{shown}`, load before it #{load}:\n\n#{output}#{told}"
    IO.puts(section)
    File.write!(file, section, [:append])
    status
  end

  # These use modules of the tests.
  defp environment(script) when script in ["cluster.exs", "postgres.exs"],
    do: [{"MIX_ENV", "test"}]

  defp environment(_script), do: []

  defp head(rounds) do
    {commit, _} = System.cmd("git", ["describe", "--always", "--dirty"])

    """
    # #{Date.utc_today()}, #{processors()}

    Flags: #{flags()}. Rounds: #{rounds}. Commit #{String.trim(commit)}. #{elixir()}
    """
  end

  defp elixir, do: "Elixir #{System.version()}, OTP #{System.otp_release()}."

  defp processors do
    "#{System.schedulers_online()} processors of " <> (lscpu("Model name") || "an unknown kind")
  end

  defp flags do
    flags = String.split(lscpu("Flags") || "", " ", trim: true)
    flags |> Enum.filter(&(&1 =~ @flags)) |> Enum.join(" ")
  end

  defp lscpu(name) do
    with path when is_binary(path) <- System.find_executable("lscpu"),
         {output, 0} <- System.cmd(path, [], env: [{"LC_ALL", "C"}]),
         [_, value] <- Regex.run(~r/^#{name}:\s*(.+)$/m, output),
         do: value,
         else: (_ -> nil)
  end

  defp load do
    case File.read("/proc/loadavg") do
      {:ok, text} -> text |> String.split(" ") |> hd()
      {:error, _} -> "unknown"
    end
  end

  defp draw(results, picture) do
    File.write!(picture, Bench.Chart.peers(File.read!(results)))
    IO.puts("drawn: #{picture}")
  end
end

Bench.All.main(System.argv())
