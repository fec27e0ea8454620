defmodule Image.ZeroShot.SourceTest do
  use ExUnit.Case, async: true

  alias Image.ZeroShot.{Error, Picture, Source}
  alias Image.ZeroShot.Call.Options
  alias Image.ZeroShot.Test.{Pictures, Upload}

  @limits Options.embed!([])
  @kinds "a picture is the bytes of an image file, {:path, path}, {:rgb, binary, height, width}, " <>
           "a Vix.Vips.Image, an Nx.Tensor of height x width x channels, or a struct that " <>
           "implements Image.ZeroShot.Source"

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
      assert refused({:path, "/dev/zero"}) ==
               {:io, "\"/dev/zero\": is not a regular file (device)"}
    end
  end

  test "a binary is taken as the bytes of a file" do
    assert Source.prepare("bytes", @limits) == {:ok, {:encoded, "bytes"}}
  end

  test "terms that are no pictures are told what would be one" do
    terms = [
      nil,
      :picture,
      1,
      1.0,
      [],
      ~c"cat.jpg",
      %{},
      %{data: "x"},
      self(),
      make_ref(),
      fn -> :ok end
    ]

    structs = [1..2, %Error{}, URI.parse("x.png")]
    tuples = [{}, {:path}, {:file, "x"}, {:encoded, "x"}]
    tuples = tuples ++ [{:rgb, ~c"123", 1, 1}, {:rgb, <<1::1>>, 1, 1}, {:bgr, "123", 1, 1}]

    for term <- terms ++ structs ++ tuples ++ [<<1::1>>, <<"bytes", 1::3>>] do
      got = inspect(term, limit: 5, printable_limit: 80)
      assert refused(term) == {:unsupported_image, "expected a picture, got: #{got}; #{@kinds}"}
    end
  end

  test "a path that is not a string, and a text, are refused with the way out" do
    assert {:unsupported_image, message} = refused({:path, ~c"cat.jpg"})
    assert message =~ ~r/^expected a picture, got: {:path, .+}; a path is a string$/
    assert {:unsupported_image, message} = refused({:text, "a cat"})

    assert message =~
             "for a text, classify with scores: :cosine, or give what Image.ZeroShot.embed_text/2 returns"
  end

  test "an implementation's answer is checked" do
    for {path, got} <- [{:nonsense, ~s("nonsense")}, {nil, "nil"}] do
      upload = %Upload{path: path}
      message = assert_raise(ArgumentError, fn -> Picture.open(upload, @limits) end).message
      assert message =~ "expected Image.ZeroShot.Source.prepare/2 to return"
      assert String.ends_with?(message, "for #{inspect(upload)}, got: #{got}")
    end
  end

  test "an implementation may return numbers of any type" do
    layout = %{
      number: :u16,
      scale: :told,
      shape: {1, 2, 1},
      strides: {2, 1, 1},
      inks: false
    }

    answer = {:ok, {:numbers, <<7::16-native, 255::16-native>>, layout}}

    assert Pictures.planes(%Upload{path: {:answer, answer}}, 2, 1) ==
             {:ok, <<7, 255, 7, 255, 7, 255>>}

    for wrong <- [
          %{layout | shape: {1, 2}},
          %{layout | shape: {1, 2, -1}},
          %{layout | strides: {2, 1, 1.0}},
          %{layout | strides: {2, 1, 2 ** 64}},
          %{layout | number: :u7},
          Map.delete(layout, :scale)
        ] do
      upload = %Upload{path: {:answer, {:ok, {:numbers, "abcd", wrong}}}}

      assert_raise ArgumentError, ~r/^expected Image.ZeroShot.Source/, fn ->
        Picture.open(upload, @limits)
      end
    end
  end

  describe "pixels as a tuple" do
    test "are read unchanged" do
      for {kind, channels} <- [grey: 1, rgb: 3, rgba: 4] do
        data = :binary.copy(<<7>>, 2 * 3 * channels)
        assert Source.prepare({kind, data, 2, 3}, @limits) == {:ok, {:raw, data, 2, 3, channels}}
      end
    end

    test "of a wrong length are an error with both figures" do
      assert refused({:rgb, "12345", 1, 2}) ==
               {:invalid_image,
                "expected the binary of {:rgb, binary, 1, 2} to hold 6 bytes " <>
                  "(height 1 x width 2 x 3), got: 5"}

      assert {:invalid_image, message} = refused({:grey, "1234567", 2, 3})
      assert message =~ "6 bytes (height 2 x width 3 x 1), got: 7"
      assert {:invalid_image, message} = refused({:rgba, "", 480, 640})
      assert message =~ "1228800 bytes (height 480 x width 640 x 4), got: 0"
    end

    test "without a proper size are an error" do
      for {height, width} <- [{0, 2}, {2, -1}, {1.0, 2}, {nil, 2}, {"1", "2"}] do
        assert {:invalid_image, message} = refused({:rgb, "123456", height, width})

        assert message ==
                 "expected height and width of {:rgb, binary, height, width} to be positive " <>
                   "integers, got: #{inspect(height)} and #{inspect(width)}"
      end
    end

    test "over a limit are an error about the limit" do
      assert {:image_too_large, message} = refused({:rgb, "", 50_000, 50_000})
      assert message =~ "picture is 50000 x 50000 pixels"
    end
  end

  describe "the value of an image input in Livebook" do
    test "is read from its pixels or from its encoded bytes" do
      image = %{data: "123456", height: 1, width: 2, format: :rgb}
      assert Source.prepare(image, @limits) == {:ok, {:raw, "123456", 1, 2, 3}}

      for format <- [:png, :jpeg] do
        image = %{image | format: format}
        assert Source.prepare(image, @limits) == {:ok, {:encoded, "123456"}}
      end

      assert {:invalid_image, message} = refused(%{image | width: 3})
      assert message =~ "to hold 9 bytes"
    end

    test "is an error that says how to read it, where it names a file" do
      image = %{file_ref: make_ref(), height: 1, width: 2, format: :rgb}
      assert {:unsupported_image, message} = refused(image)

      assert message =~
               "{:rgb, File.read!(Kino.Input.file_path(image.file_ref)), image.height, image.width}"
    end
  end
end
