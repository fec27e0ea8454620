defmodule Image.ZeroShot.Call.Typo do
  @moduledoc false

  # Finds the option or the flag that a mistyped name was meant to be.

  # The least likeness.
  @alike 0.77

  @doc """
  Returns the name that is most like this one, or `nil` if none is like it.
  """
  @spec meant(String.Chars.t(), [name, ...]) :: name | nil when name: String.Chars.t()
  def meant(mistyped, names) do
    nearest = Enum.max_by(names, &likeness(&1, mistyped))
    if likeness(nearest, mistyped) > @alike, do: nearest
  end

  # Who mistypes a word rarely mistypes its first letter.
  defp likeness(name, mistyped) do
    [name, mistyped] = [to_string(name), to_string(mistyped)]
    same_start = String.first(name) == String.first(mistyped)
    String.jaro_distance(name, mistyped) - if(same_start, do: 0, else: 0.15)
  end
end
