defmodule Image.ZeroShot.PictureTest do
  # Which pictures count as the same, seen from the public functions.
  use ExUnit.Case, async: true

  alias Image.ZeroShot
  alias Image.ZeroShot.Error
  alias Image.ZeroShot.Test.{Pictures, Upload}

  @labels ["dog", "cat", "pizza", "rocket"]

  defp opts(more \\ []), do: Keyword.merge([repo: :embedded, device: :cpu], more)
  defp classify(picture, labels), do: ZeroShot.classify(picture, labels, opts())
  defp by_label(results), do: Map.new(results, &{&1.label, &1.score})

  setup do
    %{expected: by_label(classify(Pictures.sample("dog.jpg"), @labels))}
  end

  defp assert_scores(picture, expected, delta \\ 1.0e-6) do
    for {label, score} <- picture |> classify(@labels) |> by_label() do
      assert_in_delta score, expected[label], delta
    end
  end

  test "a picture may be a path, bytes, or a struct of the user's", %{expected: expected} do
    {:path, path} = picture = Pictures.sample("dog.jpg")
    assert_scores(picture, expected)
    assert_scores(File.read!(path), expected)
    assert_scores(%Upload{path: path}, expected)
  end

  test "is the same as pixels of Vix or Nx, and as a file" do
    pixel = fn x, y -> {x * 3, y * 2, rem(x * y, 256)} end
    data = for y <- 0..59, x <- 0..79, into: "", do: pixel.(x, y) |> Tuple.to_list() |> to_bin()

    nx = data |> Nx.from_binary({:u, 8}) |> Nx.reshape({60, 80, 3})
    {:ok, vix} = Vix.Vips.Image.new_from_binary(data, 80, 60, 3, :VIPS_FORMAT_UCHAR)
    expected = by_label(classify(Pictures.png(80, 60, pixel), @labels))

    for same <- [nx, vix, {:rgb, data, 60, 80}], do: assert_scores(same, expected)
  end

  test "is turned upright by its EXIF orientation" do
    # Left to right red grows, top to bottom green: no two of the eight ways look alike.
    {w, h} = {48, 32}
    upright = fn x, y -> {div(255 * x, w - 1), div(255 * y, h - 1), 0} end
    reference = Pictures.png(w, h, upright)

    stored = %{
      1 => fn x, y -> upright.(x, y) end,
      2 => fn x, y -> upright.(w - 1 - x, y) end,
      3 => fn x, y -> upright.(w - 1 - x, h - 1 - y) end,
      4 => fn x, y -> upright.(x, h - 1 - y) end,
      5 => fn x, y -> upright.(y, x) end,
      6 => fn x, y -> upright.(w - 1 - y, x) end,
      7 => fn x, y -> upright.(w - 1 - y, h - 1 - x) end,
      8 => fn x, y -> upright.(y, h - 1 - x) end
    }

    for {orientation, pixel} <- stored do
      {width, height} = if orientation < 5, do: {w, h}, else: {h, w}
      turned = Pictures.png(width, height, [orientation: orientation], pixel)
      assert_in_delta ZeroShot.similarity(reference, turned, opts()), 1.0, 1.0e-5

      if orientation > 1 do
        as_stored = Pictures.png(width, height, pixel)
        assert ZeroShot.similarity(reference, as_stored, opts()) < 0.999
      end
    end
  end

  test "keeps its way up where the orientation is nonsense", %{expected: expected} do
    jpeg = Pictures.sample_bytes("dog.jpg")

    for nonsense <- [0, 1, 9, 65_535],
        do: assert_scores(Pictures.turn_jpeg(jpeg, nonsense), expected)

    assert ZeroShot.similarity(jpeg, Pictures.turn_jpeg(jpeg, 3), opts()) < 0.999
  end

  test "lies on white where it is transparent, on another colour, or drops its transparency" do
    # A red square, of which only the middle shows.
    alpha = fn x, y -> if x in 8..23 and y in 8..23, do: 255, else: 0 end
    flat = fn colour -> fn x, y -> if alpha.(x, y) == 255, do: {255, 0, 0}, else: colour end end
    picture = Pictures.png(32, 32, fn x, y -> {255, 0, 0, alpha.(x, y)} end)

    expected = %{
      :drop => {255, 0, 0},
      :white => {255, 255, 255},
      :black => {0, 0, 0},
      {0, 0, 255} => {0, 0, 255}
    }

    for {background, colour} <- expected do
      solid = Pictures.png(32, 32, flat.(colour))
      options = opts(background: background)
      assert_in_delta ZeroShot.similarity(picture, solid, options), 1.0, 1.0e-4
    end

    on_white = Pictures.png(32, 32, flat.({255, 255, 255}))
    assert_in_delta ZeroShot.similarity(picture, on_white, opts()), 1.0, 1.0e-4
  end

  test "has its colours converted by its profile, if asked for" do
    for name <- ~w(p3.jpg p3.png p3.webp adobe.tif inks.jpg) do
      path = Path.join("test/fixtures/profiles", name)
      expected = {:rgb, File.read!(path <> ".rgb"), 24, 32}
      plain = {:path, path}

      similar = &ZeroShot.similarity(&1, &2, opts(color_profile: :srgb))
      assert_in_delta similar.(plain, expected), 1.0, 1.0e-3
      # Pixels without a file have no profile.
      assert_in_delta similar.(expected, expected), 1.0, 1.0e-4

      {:ok, converted} = Pictures.planes(plain, 32, 24, color_profile: :srgb)
      {:ok, wanted} = Pictures.planes(expected, 32, 24)
      assert difference(converted, wanted) < 1.5
      {:ok, ignored} = Pictures.planes(plain, 32, 24)
      assert difference(ignored, wanted) > 1.9
    end
  end

  test "with a broken profile is an error that names the way out" do
    bytes = File.read!("test/fixtures/profiles/p3.jpg")
    broken = String.replace(bytes, "acsp", "none")

    assert {:error, %Error{reason: :invalid_image, message: message}} =
             ZeroShot.try_classify(broken, @labels, opts(color_profile: :srgb))

    assert message ==
             "cannot read the colour profile of the JPEG picture: it is not an ICC profile; " <>
               "decode it without its profile with color_profile: :ignore"

    assert {:ok, planes} = Pictures.planes(broken, 32, 24, color_profile: :ignore)
    assert {:ok, planes} == Pictures.planes(bytes, 32, 24)
  end

  defp difference(a, b) do
    pairs = Enum.zip(:binary.bin_to_list(a), :binary.bin_to_list(b))
    Enum.sum(for {a, b} <- pairs, do: abs(a - b)) / length(pairs)
  end

  test "may have one to four channels, and any shape" do
    for channels <- 1..4, {w, h} <- [{1, 1}, {1, 40}, {300, 2}, {33, 65}] do
      png =
        Pictures.png(w, h, fn x, y ->
          List.to_tuple(List.duplicate(rem(x + y, 256), channels))
        end)

      assert [%{score: _} | _] = classify(png, @labels)
    end
  end

  defp to_bin(list), do: :erlang.list_to_binary(list)
end
