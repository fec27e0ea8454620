defmodule Image.ZeroShot.Stub.Words do
  @moduledoc false

  # The text tower of a stub: a unit vector for each text, made of its words. Texts that share words are
  # alike, texts that share none are at right angles or nearly so. The same on every machine.
  #
  # Vectors are sparse, as `%{component => number}`. Component 0 belongs to no word, see `Answer`.

  @type vector :: %{non_neg_integer() => float()}

  # What prompts have around a label, and what all pictures have in common.
  @quiet ~w(a an the of photo picture image)

  @doc """
  The vector of a text.
  """
  @spec vector(String.t(), pos_integer()) :: vector()
  def vector(text, dim) do
    text
    |> words()
    |> Enum.flat_map(&components(&1, dim))
    |> sum()
    |> unit()
  end

  defp words(text) do
    all = text |> String.downcase() |> String.split(~r/[^\p{L}\p{M}\p{N}\p{S}]+/u, trim: true)

    case {Enum.reject(all, &(&1 in @quiet)), all} do
      {[], []} -> [text]
      {[], all} -> all
      {words, _all} -> words
    end
  end

  # Eight components of each word, so that two words that share one are still far apart.
  defp components(word, dim) do
    for <<sign::1, place::15 <- :erlang.md5(word)>>,
      do: {1 + rem(place, dim - 1), 1.0 - 2 * sign}
  end

  @doc """
  Adds weighted vectors.
  """
  @spec mix([{float(), vector()}]) :: vector()
  def mix(weighted) do
    sum(for {weight, vector} <- weighted, {place, x} <- vector, do: {place, weight * x})
  end

  defp sum(components) do
    Enum.reduce(components, %{}, fn {place, x}, sum -> Map.update(sum, place, x, &(&1 + x)) end)
  end

  @doc """
  The same direction with the length 1.
  """
  @spec unit(vector()) :: vector()
  def unit(vector) do
    case :math.sqrt(dot(vector, vector)) do
      length when length > 1.0e-9 -> Map.new(vector, fn {place, x} -> {place, x / length} end)
      _no_direction -> %{0 => 1.0}
    end
  end

  @spec dot(vector(), vector()) :: float()
  def dot(one, other) do
    Enum.reduce(one, 0.0, fn {place, x}, sum -> sum + x * Map.get(other, place, 0.0) end)
  end

  @doc """
  The row of native 32-bit floats that a model would answer.
  """
  @spec row(vector(), pos_integer()) :: binary()
  def row(vector, dim) do
    for place <- 0..(dim - 1), into: <<>>, do: <<Map.get(vector, place, 0.0)::float-32-native>>
  end
end
