defmodule Image.ZeroShot.ErrorTest do
  use ExUnit.Case, async: true

  alias Image.ZeroShot.Error

  @native "native/clip/src/error/kind.rs"

  setup_all do
    words = Regex.scan(~r/=> "([a-z_]+)",/, File.read!(@native), capture: :all_but_first)
    kinds = words |> List.flatten() |> Enum.map(&String.to_atom/1)
    assert length(kinds) > 40
    {:ok, kinds: kinds}
  end

  test "every kind of error of the native libraries is a reason in the documentation", context do
    {:docs_v1, _, _, _, %{"en" => documentation}, _, _} = Code.fetch_docs(Error)
    assert Enum.reject(context.kinds, &String.contains?(documentation, "`#{inspect(&1)}`")) == []
  end

  test "every kind of error of the native libraries is a reason of the type", context do
    {:ok, types} = Code.Typespec.fetch_types(Error)
    atoms = for {_, {name, type, _}} <- types, name in [:reason, :hub_reason], do: atoms(type)
    assert context.kinds -- List.flatten(atoms) == []
  end

  defp atoms({:type, _, :union, types}), do: Enum.map(types, &atoms/1)
  defp atoms({:atom, _, atom}), do: [atom]
  defp atoms(_other), do: []
end
