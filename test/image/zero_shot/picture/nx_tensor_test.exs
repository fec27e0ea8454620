defmodule Image.ZeroShot.NxTensorTest do
  use ExUnit.Case, async: true

  alias Image.ZeroShot.{Error, Source}
  alias Image.ZeroShot.Call.Options
  alias Image.ZeroShot.Test.{FailingBackend, Pictures}

  # A few levels of each third of the range: a picture of 3 x 2, RGB.
  @levels [0, 1, 2, 9, 31, 64, 100, 127, 128, 129, 200, 201, 202, 230, 250, 253, 254, 255]
  @bytes :binary.list_to_bin(@levels)

  defp nx(data, type, shape, names \\ nil),
    do: data |> Nx.from_binary(type) |> Nx.reshape(shape, names: names || unnamed(shape))

  defp unnamed(shape), do: List.duplicate(nil, tuple_size(shape))

  defp numbers(numbers, {kind, bits}) when kind in [:u, :s],
    do: for(number <- numbers, into: <<>>, do: <<number::size(bits)-native>>)

  defp numbers(numbers, {:f, bits}),
    do: for(number <- numbers, into: <<>>, do: <<number::float-size(bits)-native>>)

  # The high half of a float of 32 bits
  defp numbers(numbers, {:bf, 16}) do
    for number <- numbers, into: <<>> do
      <<high::16, _low::16>> = <<number::float-32>>
      <<high::16-native>>
    end
  end

  defp refused(picture, limits \\ []) do
    assert {:error, %Error{reason: reason, message: message}} =
             Pictures.planes(picture, 3, 2, limits)

    {reason, message}
  end

  setup do
    {:ok, expected} = Pictures.planes({:rgb, @bytes, 2, 3}, 3, 2)
    %{expected: expected}
  end

  test "a tensor of bytes is read unchanged" do
    limits = Options.embed!([])

    for {shape, channels} <- [{{1, 2, 3}, 3}, {{1, 6, 1}, 1}, {{3, 1, 2}, 2}, {{2, 3}, 1}] do
      {height, width} = {elem(shape, 0), elem(shape, 1)}

      assert Source.prepare(nx("abcdef", {:u, 8}, shape), limits) ==
               {:ok, {:raw, "abcdef", height, width, channels}}
    end
  end

  test "every type that holds the levels of a picture gives the same picture", %{
    expected: expected
  } do
    for type <- [u: 8, u: 16, u: 32, u: 64, s: 16, s: 32, s: 64, f: 16, bf: 16, f: 32, f: 64] do
      tensor = @levels |> numbers(type) |> nx(type, {2, 3, 3})
      assert Pictures.planes(tensor, 3, 2) == {:ok, expected}, inspect(type)
    end

    for type <- [f: 16, f: 32, f: 64] do
      tensor = @levels |> Enum.map(&(&1 / 255)) |> numbers(type) |> nx(type, {2, 3, 3})
      assert Pictures.planes(tensor, 3, 2) == {:ok, expected}, inspect(type)
    end
  end

  # The picture with its axes in this order
  defp reordered(order, type) do
    sizes = %{height: 2, width: 3, channels: 3}
    [first, second, third] = order |> Enum.map(&sizes[&1])

    levels =
      for a <- 1..first, b <- 1..second, c <- 1..third do
        at = order |> Enum.zip([a - 1, b - 1, c - 1]) |> Map.new()
        Enum.at(@levels, at.height * 9 + at.width * 3 + at.channels)
      end

    {numbers(levels, type), {first, second, third}}
  end

  test "names decide the axes", %{expected: expected} do
    for order <- [
          [:height, :width, :channels],
          [:width, :height, :channels],
          [:channels, :height, :width],
          [:channels, :width, :height],
          [:height, :channels, :width],
          [:width, :channels, :height]
        ],
        words <- [%{}, %{height: :h, width: :w, channels: :c}, %{channels: :bands}],
        type <- [u: 8, f: 32] do
      {data, shape} = reordered(order, type)
      names = Enum.map(order, &Map.get(words, &1, &1))
      tensor = nx(data, type, shape, names)
      assert Pictures.planes(tensor, 3, 2) == {:ok, expected}, inspect({names, type})
    end
  end

  test "some names may be missing where the others stand in the usual order", %{
    expected: expected
  } do
    for names <- [[nil, nil, nil], [:height, nil, nil], [nil, :width, nil], [nil, nil, :channels]] do
      assert Pictures.planes(nx(@bytes, {:u, 8}, {2, 3, 3}, names), 3, 2) == {:ok, expected}
    end

    for names <- [
          [:width, nil, nil],
          [nil, :height, nil],
          [:channels, nil, nil],
          [:batch, nil, nil],
          [:height, :width, :depth],
          [:h, :height, :channels],
          [:h, :y, :c]
        ] do
      assert refused(nx(@bytes, {:u, 8}, {2, 3, 3}, names)) ==
               {:unsupported_image,
                "cannot tell the axes of an Nx.Tensor by the names #{inspect(names)}; rename " <>
                  "each, in the order of the tensor, such as " <>
                  "Nx.rename(tensor, [:height, :width, :channels])"}
    end
  end

  test "height x width is grey" do
    {:ok, expected} = Pictures.planes({:grey, "abcdef", 2, 3}, 3, 2)
    assert Pictures.planes(nx("abcdef", {:u, 8}, {2, 3}), 3, 2) == {:ok, expected}
    assert Pictures.planes(nx("abcdef", {:u, 8}, {2, 3}, [:y, :x]), 3, 2) == {:ok, expected}
    turned = nx("adbecf", {:u, 8}, {3, 2}, [:width, :height])
    assert Pictures.planes(turned, 3, 2) == {:ok, expected}

    assert {:unsupported_image, message} =
             refused(nx("abcdef", {:u, 8}, {2, 3}, [:height, :bands]))

    assert message =~ "such as Nx.rename(tensor, [:height, :width])"
  end

  test "another shape is an error that says what to do" do
    expected =
      "expected an Nx.Tensor of height x width, or of height x width x channels with 1 to 4 " <>
        "channels, got: "

    for {shape, more} <- [
          {{6}, ""},
          {{1, 1, 2, 3}, "; of a batch give one picture, such as tensor[0]"},
          {{1, 1, 1, 2, 3}, ""},
          {{1, 1, 6},
           "; name the axes if they are in another order: " <>
             "Nx.rename(tensor, [:channels, :height, :width])"}
        ] do
      assert {:unsupported_image, message} = refused(nx("abcdef", {:u, 8}, shape))
      assert String.starts_with?(message, expected <> inspect(shape))
      assert String.ends_with?(message, more)
    end

    assert {:unsupported_image, _} = refused(nx("a", {:u, 8}, {}))
  end

  test "a value out of range is an error that names it and its place" do
    for {numbers, type, value} <- [
          {[0, 300, 5], {:u, 16}, "value 300 at row 0, column 1, channel 0"},
          {[0, 1, -1], {:s, 32}, "value -1 at row 0, column 2, channel 0"},
          {[9_000_000_000_000_000_001, 0, 0], {:s, 64}, "value 9000000000000000001 at row 0"},
          {[0.5, 0.25, -0.5], {:f, 32}, "value -0.5 at row 0, column 2, channel 0"},
          {[20.5, 256.5, 0.0], {:f, 64}, "value 256.5 at row 0, column 1, channel 0"}
        ] do
      assert {:unsupported_image, message} = refused(nx(numbers(numbers, type), type, {1, 3}))
      assert message =~ value
      assert message =~ ~r/ is outside what a picture holds \(.+\); (scale|clip) it/
    end

    for {bits, value} <- [{0x7FC00000, "NaN"}, {0x7F800000, "inf"}, {0xFF800000, "-inf"}] do
      tensor = nx(numbers([0.5], {:f, 32}) <> <<bits::32-native>>, {:f, 32}, {1, 2})
      assert {:unsupported_image, message} = refused(tensor)
      assert message =~ "value #{value} at row 0, column 1, channel 0"
    end
  end

  test "floats that may count to 1 or to 255 are an error that says what to do" do
    for numbers <- [[0.0, 1.0], [0.5, 1.5], [0.25, 15.5]] do
      assert {:unsupported_image, message} =
               refused(nx(numbers(numbers, {:f, 32}), {:f, 32}, {1, 2}))

      assert message =~ "cannot tell how far the floating-point numbers of this picture count"
      assert message =~ "convert it to 8 bits first, times 255 where it counts to 1"
    end
  end

  test "complex numbers and types of few bits are errors" do
    for type <- [c: 64, f: 8, u: 4] do
      tensor = %{nx("abcdefgh", {:u, 8}, {1, 8}) | type: type}

      assert refused(tensor) ==
               {:unsupported_image,
                "expected an Nx.Tensor of 8 to 64 bit integers or of 16 to 64 bit floats, " <>
                  "got: #{inspect(type)}; convert it with Nx.as_type/2"}
    end
  end

  test "vectorized tensors and templates are errors" do
    vectorized = "abcdef" |> nx({:u, 8}, {1, 2, 3}, [:batch, nil, nil]) |> Nx.vectorize(:batch)
    assert {:unsupported_image, message} = refused(vectorized)
    assert message =~ "expected an Nx.Tensor without vectorized axes, got: [batch: 1]"

    assert {:unsupported_image, message} = refused(Nx.template({2, 3, 3}, {:u, 8}))
    assert message =~ "expected an Nx.Tensor with values, got one of Nx.TemplateBackend"
  end

  test "an exception of Nx is an error" do
    tensor = %{nx("abcdef", {:u, 8}, {1, 2, 3}) | data: %FailingBackend{}}

    assert refused(tensor) ==
             {:invalid_image,
              "Nx could not produce the pixels: ** (RuntimeError) the buffer was donated"}
  end

  test "a tensor that is too large is not read" do
    tensor = %{nx("abcdef", {:u, 8}, {1, 2, 3}) | data: %FailingBackend{}}
    wide = %{tensor | shape: {50_000, 50_000, 3}}
    assert {:image_too_large, message} = refused(wide)
    assert message =~ "picture is 50000 x 50000 pixels"
    assert {:image_too_large, _} = refused(tensor, max_pixels: 1)
  end
end
