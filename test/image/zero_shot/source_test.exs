defmodule Image.ZeroShot.SourceTest do
  use ExUnit.Case, async: true

  alias Image.ZeroShot.{Error, Options, Picture, Source}
  alias Image.ZeroShot.Test.Upload

  @limits Options.similarity!([])
  @kinds "a picture is the bytes of an image file, {:path, path}, a Vix.Vips.Image, " <>
           "an Nx.Tensor of height x width x channels, or a struct that implements " <>
           "Image.ZeroShot.Source"

  defp refused(picture, limits \\ []) do
    assert {:error, %Error{} = error} =
             Source.prepare(picture, Map.merge(@limits, Map.new(limits)))

    {error.reason, error.message}
  end

  @tag :tmp_dir
  test "a path is read", %{tmp_dir: dir} do
    path = Path.join(dir, "picture ü.png")
    bytes = :binary.copy("0123456789abcdef", 200_000)
    File.write!(path, bytes)

    assert Source.prepare({:path, path}, @limits) == {:ok, {:encoded, bytes}}
    assert Source.prepare(%Upload{path: path}, @limits) == {:ok, {:encoded, bytes}}
  end

  @tag :tmp_dir
  test "a file that is too large is not read", %{tmp_dir: dir} do
    path = Path.join(dir, "large")
    File.write!(path, "12345")

    assert {:ok, {:encoded, "12345"}} = Source.prepare({:path, path}, %{@limits | max_bytes: 5})

    assert refused({:path, path}, max_bytes: 4) ==
             {:image_too_large,
              "#{inspect(path)}: picture is 5 bytes long, the limit is 4 bytes; " <>
                "compress it or raise :max_bytes"}
  end

  test "the limit also holds for a file that is larger than it says" do
    # Files of this kind exist on Linux only: their size is 0, and yet they can be read.
    path = "/proc/self/status"

    if File.regular?(path) do
      assert {:ok, {:encoded, "Name:" <> _}} = Source.prepare({:path, path}, @limits)
      assert {:image_too_large, _} = refused({:path, path}, max_bytes: 100)
    end
  end

  @tag :tmp_dir
  test "what is no file is refused and named", %{tmp_dir: dir} do
    missing = Path.join(dir, "missing.png")
    assert refused({:path, missing}) == {:not_found, "#{inspect(missing)}: no such file"}
    assert refused({:path, dir}) == {:io, "#{inspect(dir)}: is a directory"}

    below_a_file = Path.join(__ENV__.file, "picture.png")
    assert refused({:path, below_a_file}) == {:io, "#{inspect(below_a_file)}: not a directory"}

    assert refused({:path, "a\0b"}) == {:not_found, "<<97, 0, 98>>: no such file"}
    assert refused({:path, ""}) == {:not_found, "\"\": no such file"}
    assert refused({:path, <<255>>}) == {:not_found, "<<255>>: no such file"}
    assert {:io, _too_long} = refused({:path, String.duplicate("a", 5_000)})

    if File.exists?("/dev/zero") do
      assert refused({:path, "/dev/zero"}) == {:io, "\"/dev/zero\": is no regular file (device)"}
    end
  end

  test "a binary is taken as the bytes of a file" do
    assert Source.prepare("bytes", @limits) == {:ok, {:encoded, "bytes"}}
  end

  test "terms that are no pictures are told what would be one" do
    terms = [nil, :picture, 1, 1.0, [], ~c"cat.jpg", %{}, self(), make_ref(), fn -> :ok end]
    structs = [1..2, %Error{}, URI.parse("x.png")]
    tuples = [{}, {:path}, {:path, ~c"cat.jpg"}, {:path, nil}, {:file, "x"}, {:encoded, "x"}]

    for term <- terms ++ structs ++ tuples ++ [<<1::1>>, <<"bytes", 1::3>>] do
      got = inspect(term, limit: 5, printable_limit: 80)
      assert refused(term) == {:unsupported_image, "expected a picture, got: #{got}; #{@kinds}"}
    end
  end

  test "an implementation's answer is checked" do
    for {path, got} <- [{:nonsense, ~s("nonsense")}, {nil, "nil"}] do
      upload = %Upload{path: path}
      message = assert_raise(ArgumentError, fn -> Picture.open(upload, @limits) end).message
      assert message =~ "expected Image.ZeroShot.Source.prepare/2 to return"
      assert String.ends_with?(message, "for #{inspect(upload)}, got: #{got}")
    end
  end

  describe "Vix.Vips.Image" do
    defp vix(ref), do: struct(Vix.Vips.Image, ref: Map.new(ref))

    defp vix(shape, more), do: vix([shape: shape, data: fn -> flunk("was read") end] ++ more)

    test "is taken as pixels" do
      for bands <- 1..4 do
        data = :binary.copy(<<7>>, 2 * 3 * bands)
        image = vix(shape: {2, 3, bands}, data: fn -> data end)
        assert Source.prepare(image, @limits) == {:ok, {:raw, data, 2, 3, bands}}
      end
    end

    test "of another kind is refused" do
      assert refused(vix({2, 3, 4}, interpretation: :VIPS_INTERPRETATION_CMYK)) ==
               {:unsupported_image,
                "expected a Vix.Vips.Image in sRGB or grey, got: :VIPS_INTERPRETATION_CMYK; " <>
                  "convert it with Image.to_colorspace!(image, :srgb)"}

      assert refused(vix({2, 3, 5}, [])) ==
               {:unsupported_image,
                "expected a Vix.Vips.Image of height x width x channels with 1 to 4 channels, " <>
                  "got: {2, 3, 5}"}

      wide = vix(shape: {1, 1, 1}, type: {:u, 16}, data: fn -> "ab" end)

      assert refused(wide) ==
               {:unsupported_image,
                "expected a Vix.Vips.Image of type {:u, 8}, got: {:u, 16}; " <>
                  "convert it with Image.cast!(image, {:u, 8})"}

      assert refused(vix(shape: {1, 1, 1}, failure: "VipsJpeg: premature end")) ==
               {:invalid_image, "Vix could not produce the pixels: VipsJpeg: premature end"}
    end

    test "that is too large is not read" do
      assert refused(vix({2, 20_000, 3}, [])) ==
               {:image_too_large,
                "picture is 20000 x 2 pixels, the limit is 16384 pixels a side; " <>
                  "resize it first or raise :max_side"}

      assert refused(vix({10, 11, 3}, []), max_pixels: 109) ==
               {:image_too_large,
                "picture is 11 x 10 pixels, the limit is 109 pixels; " <>
                  "resize it first or raise :max_pixels"}
    end
  end

  describe "Nx.Tensor" do
    defp nx(shape, type, data \\ fn -> flunk("was read") end),
      do: struct(Nx.Tensor, shape: shape, type: type, data: data)

    test "is taken as pixels" do
      tensor = nx({1, 2, 3}, {:u, 8}, fn -> "abcdef" end)
      assert Source.prepare(tensor, @limits) == {:ok, {:raw, "abcdef", 1, 2, 3}}
    end

    test "of another kind is refused" do
      for shape <- [{}, {3}, {224, 224}, {1, 224, 224, 3}, {3, 224, 224}, {0, 2, 3}] do
        assert refused(nx(shape, {:u, 8})) ==
                 {:unsupported_image,
                  "expected an Nx.Tensor of height x width x channels with 1 to 4 channels, " <>
                    "got: #{inspect(shape)}"}
      end

      assert refused(nx({2, 2, 3}, {:f, 32})) ==
               {:unsupported_image,
                "expected an Nx.Tensor of type {:u, 8}, got: {:f, 32}; " <>
                  "convert it with Nx.as_type(tensor, :u8)"}
    end

    test "that is too large is not read" do
      assert {:image_too_large, _} = refused(nx({50_000, 50_000, 3}, {:u, 8}))
    end
  end
end
