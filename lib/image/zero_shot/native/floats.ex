defmodule Image.ZeroShot.Native.Floats do
  @moduledoc false

  # The native libraries compute in the byte order of the machine. What is kept or sent is
  # little-endian everywhere.

  @doc """
  From the one byte order to the other, in both directions.
  """
  @spec swap(binary()) :: binary()
  def swap(floats) do
    if <<1::16-native>> == <<1::16-little>>, do: floats, else: reverse(floats)
  end

  @doc """
  The same floats with the bytes of each reversed.
  """
  @spec reverse(binary()) :: binary()
  def reverse(floats), do: for(<<bits::32-little <- floats>>, into: <<>>, do: <<bits::32-big>>)
end
