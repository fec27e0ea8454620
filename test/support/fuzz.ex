defmodule Image.ZeroShot.Test.Fuzz do
  @moduledoc false

  # Damaged input for what is read in Elixir; `bin/fuzz` runs it, and the crate `fuzz` for the rest.
  # Each input follows from its seed and number alone.

  alias Image.ZeroShot.Error
  alias Image.ZeroShot.Call.{Labels, Options}
  alias Image.ZeroShot.Classifier.Codec

  @targets %{"labels" => :labels, "classifier" => :classifier}
  # In words; what a caller hands in has up to 64 KB here.
  @max_heap 8_000_000
  @max_message 2_000
  @edges [0, 1, 2, 4, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF]
  # Tags of Erlang's external format, plain data and others.
  @tags [131 | ~c"FXPMRNYabcdefghijklmnopqrstvwx"]

  def main([target, count | seed]) when is_map_key(@targets, target) do
    seed = seed |> List.first("1") |> String.to_integer()
    start = System.monotonic_time(:millisecond)
    {executions, sound} = run(@targets[target], String.to_integer(count), seed)
    seconds = (System.monotonic_time(:millisecond) - start) / 1000

    IO.puts("#{target}: #{executions} executions in #{round(seconds)} s, #{sound} sound")
  end

  def main(_other) do
    targets = @targets |> Map.keys() |> Enum.join(", ")
    Mix.raise("expected TARGET COUNT [SEED], where TARGET is one of #{targets}")
  end

  @doc """
  How many inputs were tried, and how many of them were taken as sound. Raises at the first that
  gets anything but a value or an error, and exits where one takes too much memory.
  """
  def run(target, count, seed) do
    task =
      Task.async(fn ->
        Process.flag(:max_heap_size, %{size: @max_heap, kill: true, error_logger: true})
        # By the middle all code is loaded, which has atoms of its own.
        middle = div(count, 2)
        sound = Enum.count(1..middle, &try_one(target, seed, &1))
        atoms = :erlang.system_info(:atom_count)
        more = Enum.count((middle + 1)..count, &try_one(target, seed, &1))
        true = :erlang.system_info(:atom_count) - atoms < 100
        {count, sound + more}
      end)

    Task.await(task, :infinity)
  end

  defp try_one(target, seed, number) do
    :rand.seed(:exsss, {seed, number, 0})
    input = input(target)

    try do
      input |> parse(target) |> sound?()
    rescue
      error ->
        message = "#{target}, input #{number} of seed #{seed}: #{Exception.message(error)}"
        reraise RuntimeError, [message: "#{message}\n#{inspect(input)}"], __STACKTRACE__
    end
  end

  defp parse(labels, :labels) do
    opts = Options.classify!(max_labels: 20, max_label_bytes: 50)

    with {:ok, labels} <- Labels.new(labels, opts) do
      true = Enum.all?(labels.prompts, &String.valid?/1)
      true = Enum.sum(labels.counts) == length(labels.prompts)
      {:ok, labels}
    end
  end

  defp parse(data, :classifier),
    do: Codec.decode("image_zero_shot classifier 1\n" <> :erlang.md5(data) <> data)

  defp sound?({:ok, _value}), do: true

  defp sound?({:error, %Error{message: message}}) do
    true = String.valid?(message) and byte_size(message) in 1..@max_message
    false
  end

  # A label set of which some part is another term.
  defp input(:labels) do
    labels = for _ <- 1..:rand.uniform(6), do: label()
    labels = if one_in(4), do: Map.new(labels, &{&1, "x"}), else: labels
    if one_in(3), do: labels, else: other_somewhere(labels)
  end

  defp input(:classifier) do
    data = :erlang.term_to_binary(kept())
    Enum.reduce(1..:rand.uniform(4), data, fn _, data -> damaged(data) end)
  end

  defp label do
    case :rand.uniform(4) do
      1 -> {term(2), text()}
      2 -> {term(2), for(_ <- 1..:rand.uniform(3), do: text())}
      _ -> text()
    end
  end

  defp other_somewhere([head | tail]) do
    case :rand.uniform(3) do
      1 -> [other_somewhere(head) | tail]
      2 -> [head | other_somewhere(tail)]
      3 -> term(3)
    end
  end

  defp other_somewhere({one, two}),
    do: if(one_in(2), do: {other_somewhere(one), two}, else: {one, other_somewhere(two)})

  defp other_somewhere(_leaf), do: term(3)

  defp text do
    case :rand.uniform(8) do
      1 -> ""
      2 -> :rand.bytes(:rand.uniform(8))
      3 -> String.duplicate("long", :rand.uniform(30))
      4 -> "e\u0301👩‍👩‍👧\0"
      _ -> "a cat"
    end
  end

  defp term(0), do: :rand.uniform(3)

  defp term(depth) do
    case :rand.uniform(14) do
      1 -> text()
      2 -> nil
      3 -> -(2 ** 70)
      4 -> 1.5
      5 -> <<5::3>>
      6 -> %{text() => term(depth - 1)}
      7 -> %URI{host: text()}
      8 -> [term(depth - 1) | term(depth - 1)]
      9 -> {term(depth - 1), term(depth - 1), text()}
      10 -> self()
      11 -> &text/0
      12 -> ~c"charlist"
      13 -> {term(depth - 1), [text(), term(depth - 1)]}
      14 -> Enum.to_list(1..30)
    end
  end

  defp kept do
    row = <<0.6::float-32-little, 0.8::float-32-little>>

    %{
      labels:
        {"cat", {:id, 7, %{"deep" => [[{1}], [2 | 3]]}}, 1.5, -(2 ** 200), ~c"abc", <<1::3>>},
      texts: String.duplicate(row, 6),
      model: %{name: "a/b", commit: nil, dim: 2, logit_scale: 100.0},
      truncated: [0, 5],
      probe: {"a photo of a cat", row},
      template: ["a photo of a {label}", nil],
      calibration: calibration()
    }
  end

  defp calibration do
    bin = %{from: 0.0, to: 0.1, count: 1, confidence: 0.05, accuracy: 0.0}
    table = %{accuracy: 0.5, ece: 0.25, bins: [bin]}

    %{
      logit_scale: 50.0,
      temperature: 0.02,
      threshold: 0.2,
      other: nil,
      examples: 2,
      before: table,
      after: table
    }
  end

  defp damaged(data) do
    {head, tail} = split(data)

    case :rand.uniform(6) do
      1 -> head <> <<Enum.random(@tags)>> <> rest(tail, 1)
      2 -> head <> number() <> tail
      3 -> replaced(head, number(), tail)
      4 -> head <> :rand.bytes(1) <> rest(tail, 1)
      5 -> head <> rest(tail, :rand.uniform(40))
      6 -> head <> (tail |> split() |> elem(0)) <> tail
    end
  end

  defp split(data), do: :erlang.split_binary(data, :rand.uniform(byte_size(data) + 1) - 1)
  defp replaced(head, new, tail), do: head <> new <> rest(tail, byte_size(new))

  defp rest(data, count) when byte_size(data) <= count, do: ""
  defp rest(data, count), do: binary_part(data, count, byte_size(data) - count)

  defp number do
    edge = Enum.random(@edges)
    Enum.random([<<edge::8>>, <<edge::16>>, <<edge::32>>])
  end

  defp one_in(count), do: :rand.uniform(count) == 1
end
