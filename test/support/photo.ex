defmodule Image.ZeroShot.Test.Photo do
  @moduledoc false

  # JPEG files of any size that take as long to decode as photographs: 4:2:0, eight coefficients of
  # each block are other than zero. A row of blocks is made once and repeated.

  import Bitwise

  @coefficients 8

  def jpeg(width, height) do
    {columns, rows} = {div(width + 15, 16), div(height + 15, 16)}
    row = scan_row(columns)

    scan =
      for i <- 0..(rows - 1),
          do: [row, if(i < rows - 1, do: <<0xFF, 0xD0 + (i &&& 7)>>, else: "")]

    IO.iodata_to_binary([
      <<0xFF, 0xD8>>,
      segment(0xDB, [0, :binary.copy(<<4>>, 64)]),
      segment(0xC0, <<8, height::16, width::16, 3, 1, 0x22, 0, 2, 0x11, 0, 3, 0x11, 0>>),
      segment(0xC4, [0x00, counts(4, 12), Enum.to_list(0..11)]),
      segment(0xC4, [0x10, counts(8, 162), symbols()]),
      segment(0xDD, <<columns::16>>),
      segment(0xDA, <<3, 1, 0, 2, 0, 3, 0, 0, 63, 0>>),
      scan,
      <<0xFF, 0xD9>>
    ])
  end

  defp segment(marker, content) do
    content = IO.iodata_to_binary(content)
    [<<0xFF, marker, byte_size(content) + 2::16>>, content]
  end

  # All codes of a table have one length, so a code is the place of its symbol.
  defp counts(length, codes), do: for(i <- 1..16, do: if(i == length, do: codes, else: 0))
  defp symbols, do: [0x00, 0xF0 | for(run <- 0..15, size <- 1..10, do: run <<< 4 ||| size)]

  defp scan_row(columns) do
    blocks = for i <- 1..(columns * 6), into: <<>>, do: block(i)
    padding = rem(8 - rem(bit_size(blocks), 8), 8)
    full = <<blocks::bitstring, (1 <<< padding) - 1::size(padding)>>
    :binary.replace(full, <<0xFF>>, <<0xFF, 0>>, [:global])
  end

  # Up to 31 in each direction, with a zero between; then the end of the block.
  defp block(i) do
    ac = for k <- 1..@coefficients, into: <<>>, do: <<place(1, 5)::8, rem(i * 7 + k * 5, 32)::5>>
    dc = <<4::4, rem(i, 2) * 15::4>>
    <<dc::bitstring, ac::bitstring, 0::8>>
  end

  defp place(run, size), do: 2 + run * 10 + size - 1
end
