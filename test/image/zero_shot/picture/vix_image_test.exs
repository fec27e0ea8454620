defmodule Image.ZeroShot.VixImageTest do
  use ExUnit.Case, async: true

  alias Image.ZeroShot.{Error, Source}
  alias Image.ZeroShot.Call.Options
  alias Image.ZeroShot.Test.Pictures
  alias Vix.Vips.{MutableImage, Operation}
  alias Vix.Vips.Image, as: Vimage

  @limits Options.embed!([])

  defp vix(data, {height, width, bands}, format, space \\ nil) do
    {:ok, image} = Vimage.new_from_binary(data, width, height, bands, :"VIPS_FORMAT_#{format}")
    if space, do: as(image, space), else: image
  end

  defp as(image, space) do
    {:ok, image} = Operation.copy(image, interpretation: :"VIPS_INTERPRETATION_#{space}")
    image
  end

  defp shorts(numbers), do: for(number <- numbers, into: "", do: <<number::16-native>>)
  defp floats(numbers), do: for(number <- numbers, into: "", do: <<number::float-32-native>>)

  # The levels of a picture of one row, of one grey channel
  defp levels(image) do
    width = Vimage.width(image)
    assert {:ok, planes} = Pictures.planes(image, width, 1)
    assert planes == :binary.copy(binary_part(planes, 0, width), 3)
    planes |> binary_part(0, width) |> :binary.bin_to_list()
  end

  defp refused(image, limits \\ []) do
    assert {:error, %Error{reason: reason, message: message}} =
             Pictures.planes(image, Vimage.width(image), Vimage.height(image), limits)

    {reason, message}
  end

  test "an image of bytes is read unchanged, with its alpha" do
    for bands <- 1..4, space <- [nil, "sRGB", "RGB", "B_W", "MULTIBAND"] do
      data = :binary.copy(<<7>>, 2 * 3 * bands)
      image = vix(data, {2, 3, bands}, "UCHAR", space)
      assert Source.prepare(image, @limits) == {:ok, {:raw, data, 2, 3, bands}}
    end
  end

  test "a 16-bit image equals its file" do
    level = fn x, y -> rem(x * 4001 + y * 2903 + 255, 65_536) end

    for {channels, space} <- [{1, "GREY16"}, {2, "GREY16"}, {3, "RGB16"}, {4, "RGB16"}] do
      pixel = fn x, y -> List.to_tuple(for c <- 1..channels, do: level.(x * c, y + c)) end
      file = Pictures.png(20, 10, [depth: 16], pixel)
      samples = for y <- 0..9, x <- 0..19, sample <- Tuple.to_list(pixel.(x, y)), do: sample
      image = samples |> shorts() |> vix({10, 20, channels}, "USHORT", space)

      for background <- [:white, {10, 20, 30}] do
        assert {:ok, planes} = Pictures.planes(file, 20, 10, background: background)
        assert Pictures.planes(image, 20, 10, background: background) == {:ok, planes}
      end
    end
  end

  test "an image in 16-bit grey may hold other numbers, and bytes stay bytes" do
    assert [0.0, 255.9, 256.0, 65_535.0, 70_000.0, -4.0]
           |> floats()
           |> vix({1, 6, 1}, "FLOAT", "GREY16")
           |> levels() == [0, 0, 1, 255, 255, 0]

    assert "abc" |> vix({1, 3, 1}, "UCHAR", "GREY16") |> levels() == ~c"abc"
  end

  test "CMYK equals the conversion of the decoders in every type of number" do
    # Light is what black leaves: 235 of 235 / 255, and so on.
    data = <<50, 24, 9, 20, 0, 255, 0, 0, 10, 20, 30, 255, 0, 0, 0, 0>>
    expected = {:ok, <<189, 255, 0, 255, 213, 0, 0, 255, 227, 255, 0, 255>>}
    assert data |> vix({1, 4, 4}, "UCHAR", "CMYK") |> Pictures.planes(4, 1) == expected

    wide = for <<byte <- data>>, do: byte * 256 + 99

    assert wide |> shorts() |> vix({1, 4, 4}, "USHORT", "CMYK") |> Pictures.planes(4, 1) ==
             expected

    floats = for <<byte <- data>>, do: byte * 1.0

    assert floats |> floats() |> vix({1, 4, 4}, "FLOAT", "CMYK") |> Pictures.planes(4, 1) ==
             expected

    more = for <<inks::4-bytes <- data>>, into: "", do: inks <> <<99>>
    assert more |> vix({1, 4, 5}, "UCHAR", "CMYK") |> Pictures.planes(4, 1) == expected
  end

  test "floats and wide integers in sRGB are rounded and clipped" do
    for space <- ["sRGB", "RGB", "B_W", "MULTIBAND"] do
      assert [0.0, 0.4, 127.5, 254.4, 255.0, 300.0, -7.0]
             |> floats()
             |> vix({1, 7, 1}, "FLOAT", space)
             |> levels() == [0, 0, 128, 254, 255, 255, 0]
    end

    assert [0, 7, 255, 510] |> shorts() |> vix({1, 4, 1}, "USHORT") |> levels() == [
             0,
             7,
             255,
             255
           ]

    assert [-255, 7, 255, 300] |> shorts() |> vix({1, 4, 1}, "SHORT") |> levels() == [
             0,
             7,
             255,
             255
           ]

    assert {:unsupported_image, message} =
             [0, 511] |> shorts() |> vix({1, 2, 1}, "USHORT") |> refused()

    assert message =~ "value 511 at row 0, column 1, channel 0 is outside what a picture holds"
  end

  test "floats that libvips shows as black are an error" do
    for floats <- [[0.0, 1.0], [0.2, 0.9], [0.2, 1.04], [3.5, 15.5]] do
      assert {:unsupported_image, message} =
               floats |> floats() |> vix({1, 2, 1}, "FLOAT") |> refused()

      assert message =~ "which its colour space takes for"
      assert message =~ "convert it to 8 bits first, times 255 where it counts to 1"
    end

    assert [0.0, 0.0] |> floats() |> vix({1, 2, 1}, "FLOAT") |> levels() == [0, 0]
  end

  test "Vix converts other colour spaces" do
    image =
      [0.0, 0.0, 0.0, 0.5, 0.5, 0.5, 1.0, 1.0, 1.0]
      |> floats()
      |> vix({1, 3, 3}, "FLOAT", "scRGB")

    assert [0, middle, 255] = levels(image)
    assert_in_delta middle, 188, 1
  end

  test "what Vix cannot convert is an error" do
    image = [1.0, 2.0] |> floats() |> vix({1, 2, 1}, "FLOAT", "MATRIX")
    assert {:unsupported_image, message} = refused(image)
    assert message =~ "Vix cannot convert this image (1 x FLOAT, MATRIX) to sRGB: "
    assert message =~ "no known route from"

    complex = floats([1.0, 2.0, 3.0, 4.0])

    assert {:unsupported_image, message} =
             complex |> vix({1, 2, 1}, "COMPLEX", "B_W") |> refused()

    assert message =~ "expected a Vix.Vips.Image of real numbers, got: 1 x COMPLEX, B_W"
  end

  test "a wrong number of bands is an error" do
    for {bands, space} <- [{5, "sRGB"}, {5, "MULTIBAND"}, {12, "B_W"}, {3, "CMYK"}] do
      image = vix(:binary.copy(<<1>>, 6 * bands), {2, 3, bands}, "UCHAR", space)
      assert {:unsupported_image, message} = refused(image)
      assert message =~ "got: #{bands} x UCHAR, #{space}; take the bands that are colours with"
    end
  end

  # A profile's head, which is all that is looked at before libvips reads it.
  defp profile(kind),
    do: <<0::16-unit(8)>> <> kind <> <<0::16-unit(8)>> <> "acsp" <> <<0::92-unit(8)>>

  defp with_profile(image, profile) do
    set = &MutableImage.set(&1, "icc-profile-data", :VipsBlob, profile)
    {:ok, image} = Vimage.mutate(image, set)
    image
  end

  test "a profile does not count without the option, nor for pixels of another kind" do
    pixels = vix("abcdef", {1, 2, 3}, "UCHAR", "sRGB")
    as_it_is = {:ok, {:raw, "abcdef", 1, 2, 3}}
    srgb = Options.embed!(color_profile: :srgb)

    assert Source.prepare(pixels, srgb) == as_it_is
    assert Source.prepare(with_profile(pixels, profile("RGB ")), @limits) == as_it_is
    assert Source.prepare(with_profile(pixels, "rubbish"), @limits) == as_it_is

    for kind <- ["GRAY", "CMYK", "Lab "],
        do: assert(Source.prepare(with_profile(pixels, profile(kind)), srgb) == as_it_is)

    grey = "abc" |> vix({1, 3, 1}, "UCHAR", "B_W") |> with_profile(profile("RGB "))
    assert Source.prepare(grey, srgb) == {:ok, {:raw, "abc", 1, 3, 1}}

    # The colours of scRGB are those of every device.
    light = [0.0, 0.5, 1.0] |> floats() |> vix({1, 1, 3}, "FLOAT", "scRGB")
    assert {:ok, {:raw, converted, 1, 1, 3}} = Source.prepare(light, srgb)
    with_profile = with_profile(light, profile("RGB "))
    assert Source.prepare(with_profile, srgb) == {:ok, {:raw, converted, 1, 1, 3}}
  end

  test "a profile that is none is an error that names the way out" do
    for broken <- ["", "rubbish", :binary.copy(<<0>>, 200)] do
      image = "abc" |> vix({1, 1, 3}, "UCHAR", "sRGB") |> with_profile(broken)

      assert refused(image, color_profile: :srgb) ==
               {:invalid_image,
                "cannot convert a Vix.Vips.Image by its colour profile: it is not an ICC " <>
                  "profile; read it without its profile with color_profile: :ignore"}
    end
  end

  test "the first of several pages is read" do
    pages = fn image, height ->
      {:ok, image} = Vimage.mutate(image, &MutableImage.set(&1, "page-height", :gint, height))
      image
    end

    image = vix("abcdefghijkl", {4, 3, 1}, "UCHAR")
    assert Source.prepare(pages.(image, 2), @limits) == {:ok, {:raw, "abcdef", 2, 3, 1}}
    assert Source.prepare(pages.(image, 1), @limits) == {:ok, {:raw, "abc", 1, 3, 1}}

    # A height that does not fit is left over from another image.
    for height <- [3, 4, 8, 0, -2] do
      assert Source.prepare(pages.(image, height), @limits) ==
               {:ok, {:raw, "abcdefghijkl", 4, 3, 1}}
    end

    # Limits are those of the page.
    tall = pages.(vix(:binary.copy("x", 40), {20, 2, 1}, "UCHAR"), 2)
    assert {:ok, _} = Source.prepare(tall, %{@limits | max_pixels: 4, max_side: 2})
    assert {:error, %Error{}} = Source.prepare(tall, %{@limits | max_pixels: 3})
  end

  test "an image over a limit is an error before its pixels are computed" do
    {:ok, wide} = Operation.black(20_000, 2, bands: 3)

    assert refused(wide) ==
             {:image_too_large,
              "picture is 20000 x 2 pixels, the limit is 16384 pixels a side; " <>
                "resize it first or raise :max_side"}

    # Some 10 GB if anybody asked
    {:ok, vast} = Operation.black(60_000, 60_000, bands: 3)
    assert {:image_too_large, message} = refused(vast)
    assert message =~ "the limit is 50000000 pixels"

    assert {:image_too_large, message} =
             [20.0, 30.0] |> floats() |> vix({1, 2, 1}, "FLOAT") |> refused(max_decode_bytes: 7)

    assert message ==
             "picture takes 8 bytes of memory (2 x 1 pixels, 1 x FLOAT, B_W), the limit is 7 bytes; " <>
               "resize it, convert it to 8 bits or raise :max_decode_bytes"
  end

  test "an image whose reference is gone is an error" do
    assert {:error, %Error{reason: :invalid_image, message: message}} =
             Source.prepare(%Vimage{ref: nil}, @limits)

    assert message =~ "Vix could not produce the pixels: ** ("
  end

  # `test/oracle/vix_nx.exs` tests the like of these with real files.
  if Code.ensure_loaded?(Vimage) and function_exported?(Vimage, :build, 4) do
    # The stand-in squares levels of 0 to 1.
    test "colours are converted by the profile, and alpha is not" do
      srgb = Options.embed!(color_profile: :srgb)
      read = fn image, kind -> image |> with_profile(profile(kind)) |> Source.prepare(srgb) end
      {from, to} = {<<0, 51, 102, 204>>, <<0, 10, 41, 163>>}

      for space <- ["sRGB", "RGB", "MULTIBAND"], data = binary_part(from, 0, 3) do
        expected = {:ok, {:raw, binary_part(to, 0, 3), 1, 1, 3}}
        assert data |> vix({1, 1, 3}, "UCHAR", space) |> read.("RGB ") == expected
      end

      alpha = {:ok, {:raw, <<0, 10, 41, 204>>, 1, 1, 4}}
      assert from |> vix({1, 1, 4}, "UCHAR", "sRGB") |> read.("RGB ") == alpha

      wide = for <<level <- from>>, into: "", do: <<level * 257::16-native>>
      assert wide |> vix({1, 1, 4}, "USHORT", "RGB16") |> read.("RGB ") == alpha

      grey = {:ok, {:raw, <<10, 10, 10, 102>>, 1, 1, 4}}
      assert <<51, 102>> |> vix({1, 1, 2}, "UCHAR", "B_W") |> read.("GRAY") == grey

      inks = {:ok, {:raw, <<255, 245, 214>>, 1, 1, 3}}
      assert from |> vix({1, 1, 4}, "UCHAR", "CMYK") |> read.("CMYK") == inks
    end

    test "the pixels of a refused image are not computed" do
      unread = fn shape, space ->
        fields = %{"interpretation" => :"VIPS_INTERPRETATION_#{space}"}
        Vimage.build(shape, :VIPS_FORMAT_UCHAR, fn -> flunk("was read") end, fields)
      end

      for limit <- [max_pixels: 109, max_side: 10, max_decode_bytes: 329] do
        assert {:image_too_large, _} = {10, 11, 3} |> unread.("sRGB") |> refused([limit])
      end

      assert {:unsupported_image, _} = {1, 1, 5} |> unread.("sRGB") |> refused()
      assert {:unsupported_image, _} = {1, 1, 3} |> unread.("CMYK") |> refused()
      assert {:unsupported_image, _} = {1, 1, 1} |> unread.("MATRIX") |> refused()
    end

    test "pixels that cannot be computed are an error" do
      broken = fn fields ->
        Vimage.build({1, 1, 1}, :VIPS_FORMAT_UCHAR, fn -> {:error, "end of stream"} end, fields)
      end

      expected =
        "Vix could not produce the pixels (is the file damaged or cut short?): " <>
          "Failed to write extracted region to memory"

      assert refused(broken.(%{})) == {:invalid_image, expected}

      assert refused(broken.(%{"vips-sequential" => 1})) ==
               {:invalid_image,
                expected <>
                  "; the image was opened for sequential access and can be read once: to read " <>
                  "it again, first copy it with Vix.Vips.Image.copy_memory/1"}
    end
  end
end
