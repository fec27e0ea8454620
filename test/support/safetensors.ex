defmodule Image.ZeroShot.Test.Safetensors do
  @moduledoc false

  # A safetensors file as a map of names to lists of rows, each the bytes of the last dimensions.

  alias Image.ZeroShot.Test.JSON

  @spec read!(Path.t()) :: %{String.t() => [binary()]}
  def read!(path) do
    <<length::64-little, header::binary-size(length), data::binary>> = File.read!(path)

    for {name, %{"data_offsets" => [from, to], "shape" => [rows | _]}} <- JSON.parse!(header),
        into: %{} do
      width = div(to - from, rows)
      {name, for(i <- 0..(rows - 1), do: binary_part(data, from + i * width, width))}
    end
  end

  @doc "Safetensors are little-endian, what the library hands out is native."
  def floats(row), do: for(<<float::float-32-little <- row>>, do: float)
end
