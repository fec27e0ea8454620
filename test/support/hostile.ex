defmodule Image.ZeroShot.Test.Hostile do
  @moduledoc false

  # Files that take far more work than their pixels are worth. `native/clip/tests` has hundreds
  # of them; these are large, and meant for all decode threads of a VM at once.

  @side 4_096
  @tile 16

  @doc """
  Two TIFFs of 20 MB whose 65,536 tiles all name the same chunk: of JPEG, and of Deflate.
  """
  def files, do: [shared_tile(7, jpeg()), shared_tile(8, deflate())]

  # A picture of the tile's size, if anyone reads that far.
  defp jpeg, do: <<0xFF, 0xD8, :binary.copy(<<0>>, 20_000_000)::binary>>

  # Empty blocks, which are read and yield nothing, and then the pixels.
  defp deflate do
    pixels = :binary.copy(<<0>>, @tile * @tile)
    empty = :binary.copy(<<0, 0, 0, 0xFF, 0xFF>>, 4_000_000)

    <<0x78, 0x9C, empty::binary, 1, 256::16-little, 0xFEFF::16-little, pixels::binary,
      :erlang.adler32(pixels)::32>>
  end

  defp shared_tile(compression, chunk) do
    tiles = div(@side, @tile) ** 2
    directory = 8 + byte_size(chunk)
    offsets = directory + 2 + 10 * 12 + 4
    lengths = offsets + 4 * tiles

    entries = [
      {256, 1, @side},
      {257, 1, @side},
      {258, 1, 8},
      {259, 1, compression},
      {262, 1, 1},
      {277, 1, 1},
      {322, 1, @tile},
      {323, 1, @tile},
      {324, tiles, offsets},
      {325, tiles, lengths}
    ]

    IO.iodata_to_binary([
      <<"II*", 0, directory::32-little>>,
      chunk,
      <<length(entries)::16-little>>,
      for({tag, count, value} <- entries) do
        <<tag::16-little, 4::16-little, count::32-little, value::32-little>>
      end,
      <<0::32>>,
      :binary.copy(<<8::32-little>>, tiles),
      :binary.copy(<<byte_size(chunk)::32-little>>, tiles)
    ])
  end
end
