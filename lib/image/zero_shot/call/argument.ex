defmodule Image.ZeroShot.Call.Argument do
  @moduledoc false

  # Arguments that are mistakes in the program: what was expected, and what was given.

  @doc """
  Raises an `ArgumentError` that says what was expected instead of this.
  """
  @spec wrong!(String.t(), term()) :: no_return()
  def wrong!(expected, got), do: raise(ArgumentError, "expected #{expected}, got: #{shown(got)}")

  @doc """
  The same with the way out.
  """
  @spec wrong!(String.t(), term(), String.t()) :: no_return()
  def wrong!(expected, got, way_out),
    do: raise(ArgumentError, "expected #{expected}, got: #{shown(got)}; #{way_out}")

  @doc """
  Returns a list or another enumerable. Its elements are not looked at: it may be a lazy stream.
  """
  @spec enumerable!(term(), String.t()) :: Enumerable.t()
  def enumerable!(term, noun) do
    if enumerable?(term),
      do: term,
      else: wrong!("#{noun} to be a list or another enumerable", term)
  end

  defp enumerable?(list) when is_list(list), do: not List.improper?(list)
  defp enumerable?(function) when is_function(function), do: is_function(function, 2)
  defp enumerable?(other), do: Enumerable.impl_for(other) != nil

  @doc """
  A term as an error message may show it.
  """
  @spec shown(term()) :: String.t()
  def shown(term), do: inspect(term, limit: 5, printable_limit: 80)
end
