defmodule Image.ZeroShot.Test.Pictures do
  @moduledoc false

  # Pictures to test with: the samples, and PNG files made to order.

  alias Image.ZeroShot.Picture
  alias Image.ZeroShot.Call.Options
  alias Image.ZeroShot.Serving.Lease

  @signature <<0x89, "PNG\r\n", 0x1A, "\n">>

  def sample(name), do: {:path, Path.join("priv/samples", name)}

  def samples do
    ~w(airplane.png cat.png dog.jpg guitar.png pizza.webp red-apple.png rocket.png umbrella.png)
  end

  def sample_bytes(name), do: File.read!(Path.join("priv/samples", name))

  @doc """
  A PNG of 8 bits a channel, or of `:depth` bits. `pixel` is called with the column and the row, and
  returns a tuple of one to four channels. With `:orientation`, an EXIF chunk says which way up it
  is.
  """
  def png(width, height, opts \\ [], pixel) do
    depth = Keyword.get(opts, :depth, 8)

    rows =
      for y <- 0..(height - 1) do
        [0 | for(x <- 0..(width - 1), s <- Tuple.to_list(pixel.(x, y)), do: <<s::size(depth)>>)]
      end

    colour_type = Enum.at([0, 4, 2, 6], tuple_size(pixel.(0, 0)) - 1)
    header = <<width::32, height::32, depth, colour_type, 0, 0, 0>>
    file([{"IHDR", header}, exif(opts[:orientation]), {"IDAT", :zlib.compress(rows)}])
  end

  @doc """
  A PNG that claims a size, and has whatever compressed data it is given.
  """
  def claiming(width, height, compressed),
    do: file([{"IHDR", <<width::32, height::32, 8, 2, 0, 0, 0>>}, {"IDAT", compressed}])

  @doc """
  A JPEG with an EXIF segment that says which way up it is.
  """
  def turn_jpeg(<<0xFF, 0xD8, rest::binary>>, orientation) do
    segment = "Exif" <> <<0, 0>> <> tiff(orientation)
    <<0xFF, 0xD8, 0xFF, 0xE1, byte_size(segment) + 2::16, segment::binary, rest::binary>>
  end

  @doc """
  The pixels that a model of this size of picture sees, red plane first, or the error.
  """
  def planes(picture, width, height, opts \\ []) do
    pixels(picture, %{resize: {:exact, height, width}, crop: nil, filter: :bicubic}, opts)
  end

  @doc """
  The pixels for a model that preprocesses so, or the error.
  """
  def pixels(picture, preprocessing, opts \\ []) do
    opts = Options.embed!(opts)

    lease = %Lease{
      info: %{preprocessing: preprocessing},
      deadline: :infinity,
      decode_until: :infinity,
      via: nil,
      monitor: make_ref()
    }

    with {:ok, picture} <- Picture.open(picture, opts),
         do: Picture.pixels(picture, lease, opts)
  end

  defp exif(nil), do: nil
  defp exif(orientation), do: {"eXIf", tiff(orientation)}

  # A directory of one entry: tag 0x0112, a short.
  defp tiff(orientation) do
    <<"MM", 42::16, 8::32, 1::16, 0x0112::16, 3::16, 1::32, orientation::16, 0::16, 0::32>>
  end

  defp file(chunks) do
    chunks = Enum.reject(chunks, &is_nil/1) ++ [{"IEND", ""}]

    IO.iodata_to_binary([
      @signature
      | for({type, data} <- chunks, do: chunk(type, data))
    ])
  end

  defp chunk(type, data),
    do: [<<byte_size(data)::32>>, type, data, <<:erlang.crc32([type, data])::32>>]
end
