defmodule Image.ZeroShot.HostileTest do
  # Whatever the bytes are, the answer is a result or an error, and the VM goes on.
  use ExUnit.Case, async: true

  alias Image.ZeroShot
  alias Image.ZeroShot.Error
  alias Image.ZeroShot.Test.Pictures

  @opts [repo: :embedded, device: :cpu]
  @reasons [:invalid_image, :unsupported_image, :image_too_large]

  defp answer(picture, more \\ []), do: ZeroShot.try_label(picture, ["a", "b"], @opts ++ more)

  defp assert_harmless(picture) do
    case answer(picture) do
      {:ok, label} -> assert label in ["a", "b"]
      {:error, %Error{reason: reason}} -> assert reason in @reasons
    end
  end

  defp assert_refused(picture, more \\ []) do
    assert {:error, %Error{reason: reason, message: message}} = answer(picture, more)
    assert reason in @reasons
    assert is_binary(message) and message != ""
    {reason, message}
  end

  test "a picture that ends too soon is harmless" do
    for name <- ["dog.jpg", "cat.png", "pizza.webp"] do
      bytes = Pictures.sample_bytes(name)

      for part <- 0..63 do
        size = div(byte_size(bytes) * part, 64)
        assert_harmless(binary_part(bytes, 0, size))
      end
    end
  end

  test "a picture with bytes changed here and there is harmless" do
    :rand.seed(:exsss, {1, 2, 3})

    for name <- ["dog.jpg", "cat.png", "pizza.webp"], _ <- 1..60 do
      bytes = Pictures.sample_bytes(name)
      position = :rand.uniform(byte_size(bytes)) - 1
      {head, <<_, tail::binary>>} = :erlang.split_binary(bytes, position)
      assert_harmless(<<head::binary, :rand.uniform(256) - 1, tail::binary>>)
    end
  end

  test "bytes that are no picture are refused" do
    :rand.seed(:exsss, {4, 5, 6})

    texts = ["", "\0", "hello", "<svg xmlns='http://www.w3.org/2000/svg'/>", "%PDF-1.7", "GIF89a"]

    signatures = [
      <<0xFF, 0xD8, 0xFF>>,
      "RIFF\0\0\0\0WEBPVP8 ",
      "BM",
      "II*\0",
      <<0x89, "PNG\r\n", 0x1A, "\n">>
    ]

    noise = for size <- [1, 10, 1_000, 100_000], do: :rand.bytes(size)
    others = [:zlib.gzip("x"), :erlang.term_to_binary(%{}), <<0x80, 4, "cos\nsystem\n">>]

    for bytes <- texts ++ signatures ++ noise ++ others, do: assert_refused(bytes)
  end

  test "a picture that claims to be huge is refused for what it claims" do
    assert {:image_too_large, message} = assert_refused(Pictures.claiming(50_000, 50_000, "x"))
    assert message =~ "max_side" or message =~ "max_pixels"

    assert {:image_too_large, message} = assert_refused(Pictures.claiming(10_000, 10_000, "x"))
    assert message =~ "max_pixels"

    assert_refused(Pictures.claiming(0xFFFF_FFFF, 0xFFFF_FFFF, "x"))
    assert_refused(Pictures.claiming(0, 10, "x"))
    assert_refused(Pictures.claiming(10, 0, "x"))
  end

  test "data that unpacks to far more than the picture is harmless" do
    bomb = :zlib.compress(:binary.copy(<<0>>, 50_000_000))
    assert byte_size(bomb) < 100_000
    assert_harmless(Pictures.claiming(4, 4, bomb))
  end

  test "limits of the call are kept, and named" do
    pixels = Pictures.png(40, 20, fn x, y -> {x, y, 0} end)
    assert {:ok, _} = answer(pixels, max_pixels: 800, max_side: 40, max_bytes: byte_size(pixels))

    for limit <- [
          max_pixels: 799,
          max_side: 39,
          max_bytes: byte_size(pixels) - 1,
          max_decode_bytes: 100
        ] do
      assert {:image_too_large, message} = assert_refused(pixels, [limit])
      assert message =~ limit |> elem(0) |> to_string()
    end
  end

  test "pixels that are not as many as their shape says are refused" do
    for {shape, data} <- [{{2, 2, 3}, "abc"}, {{2, 2, 3}, ""}, {{1, 1, 1}, "ab"}] do
      tensor = %{Nx.from_binary(data, {:u, 8}) | shape: shape, names: [nil, nil, nil]}
      assert {:error, %Error{}} = answer(tensor)
    end
  end

  test "any term in place of a picture, of labels, of a label is harmless" do
    terms = [
      nil,
      true,
      1,
      -1.5,
      :a,
      "a",
      "",
      <<255>>,
      <<1::3>>,
      [],
      ["a"],
      ~c"a",
      ["a" | "b"],
      [[]]
    ]

    terms = terms ++ [{}, {:path, nil}, {:path, "x\0"}, %{}, 1..2, self(), make_ref(), &is_nil/1]
    dog = Pictures.sample("dog.jpg")

    for term <- terms do
      assert {:error, %Error{}} = ZeroShot.try_classify(term, ["a"], @opts)
      assert {:error, %Error{}} = ZeroShot.try_similarity(term, dog, @opts)

      for labels <- [term, ["a", term]] do
        case ZeroShot.try_classify(dog, labels, @opts) do
          {:ok, results} -> assert Enum.sort(Enum.map(results, & &1.label)) == names(labels)
          {:error, %Error{reason: reason}} -> assert reason == :invalid_label
        end
      end
    end
  end

  # A pair is a label with a prompt of its own.
  defp names(labels) do
    labels |> Enum.map(&with({label, _prompt} <- &1, do: label)) |> Enum.sort()
  end

  test "malformed files of other projects are harmless" do
    files = Path.wildcard("test/fixtures/corpora/**/*.*")
    assert length(files) > 150
    for path <- files, do: assert_harmless({:path, path})
  end
end
