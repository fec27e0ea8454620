defmodule Image.ZeroShot.ExternalTermTest do
  use ExUnit.Case, async: true

  alias Image.ZeroShot.Classifier.ExternalTerm

  # What the VM takes: the heap, and the binaries beside it.
  defp size(term), do: :erts_debug.flat_size(term) * 8 + binaries(term)

  defp binaries(term) when is_bitstring(term) and byte_size(term) > 64, do: byte_size(term)
  defp binaries([head | tail]), do: binaries(head) + binaries(tail)
  defp binaries(term) when is_tuple(term), do: term |> Tuple.to_list() |> binaries()
  defp binaries(term) when is_map(term), do: term |> :maps.to_list() |> binaries()
  defp binaries(_other), do: 0

  test "tells at least what the VM takes for a term, and little more" do
    terms = [
      0,
      -1,
      2 ** 27,
      2 ** 63,
      -(2 ** 64),
      2 ** 5_000,
      1.5,
      nil,
      :"an atom of 日本語",
      [],
      [1],
      [1 | 2],
      Enum.to_list(1..255),
      List.duplicate(300, 1_000),
      List.duplicate([], 1_000),
      List.duplicate(%{}, 1_000),
      List.duplicate({}, 1_000),
      Enum.map(1..1_000, &[&1 / 1]),
      {},
      List.to_tuple(Enum.to_list(1..300)),
      Tuple.duplicate({1}, 1_000),
      "",
      "a",
      String.duplicate("a", 63),
      String.duplicate("a", 10_000),
      <<1::3>>,
      <<String.duplicate("a", 1_000)::binary, 1::3>>,
      %{},
      %{a: 1},
      Map.new(1..32, &{&1, &1}),
      Map.new(1..33, &{&1, &1}),
      Map.new(1..10_000, &{&1, [&1]}),
      %URI{host: "host"}
    ]

    for term <- terms ++ [terms] do
      assert {:ok, memory} = ExternalTerm.memory(:erlang.term_to_binary(term))
      assert memory >= size(term), inspect(term, limit: 5)
      assert memory <= 3 * size(term) + 128, inspect(term, limit: 5)
    end
  end

  test "refuses what is not plain data" do
    for term <- [self(), make_ref(), fn -> 1 end, &String.length/1, hd(Port.list())],
        term <- [term, [term], {1, term}, %{term => 1}, %{1 => [[term]]}],
        do: assert(ExternalTerm.memory(:erlang.term_to_binary(term)) == :error)

    compressed = :erlang.term_to_binary(List.duplicate(0, 1_000), compressed: 9)
    assert <<131, 80, _::binary>> = compressed
    assert ExternalTerm.memory(compressed) == :error
  end

  test "refuses what is not one whole term" do
    whole = :erlang.term_to_binary([1, "two", {3.0, %{four: 2 ** 70}}, <<5::5>>, ~c"six", :seven])
    for size <- 0..(byte_size(whole) - 1), do: assert(memory_of(whole, size) == :error)
    assert {:ok, _} = ExternalTerm.memory(whole)
    assert ExternalTerm.memory(whole <> <<106>>) == :error

    # Counts that nothing stands behind.
    for tag <- [105, 107, 108, 109, 111, 116],
        do: assert(ExternalTerm.memory(<<131, tag, 0xFFFFFFFF::32, 0, 106, 106>>) == :error)
  end

  defp memory_of(binary, size), do: binary |> binary_part(0, size) |> ExternalTerm.memory()
end
