defmodule Image.ZeroShot.EmbeddingTest do
  use ExUnit.Case, async: true

  alias Image.ZeroShot.{Embedding, Error}

  doctest Embedding

  @commit "3d74acf9a28c67741b2f4f2ea7635f0aaf6f0268"

  defp vector(floats), do: for(x <- floats, into: <<>>, do: <<x::float-32-little>>)

  defp embedding(floats, opts \\ []) do
    opts = Keyword.merge([model: "org/name", commit: @commit], opts)
    {:ok, embedding} = floats |> vector() |> Embedding.from_binary(opts)
    embedding
  end

  defp refused(binary, opts \\ []) do
    assert {:error, %Error{reason: :invalid_embedding} = error} =
             Embedding.from_binary(binary, opts)

    error.message
  end

  describe "a bare vector" do
    test "of unit length stays as it is" do
      for floats <- [[1.0], [0.6, 0.8], List.duplicate(1 / :math.sqrt(512), 512)] do
        assert embedding(floats).vector == vector(floats)
      end
    end

    test "of another length is scaled to 1" do
      assert_close(embedding([3.0e30, -4.0e30]), [0.6, -0.8])
      assert_close(embedding([3.0e-30, 4.0e-30]), [0.6, 0.8])
    end

    test "says what it was told of itself" do
      assert %{model: "org/name", commit: @commit, kind: :picture} = embedding([1.0])
      assert %{commit: nil, kind: :text} = embedding([1.0], commit: nil, kind: :text)
    end

    test "that is empty, zero or not finite is an error that names the fault" do
      opts = [model: "org/name"]
      assert refused("", opts) =~ "got 0"
      assert refused(vector([0.0, -0.0]), opts) =~ "no direction"
      nan = <<0x7FC00000::32-little>>
      infinity = <<0x7F800000::32-little>>
      assert refused(vector([1.0]) <> nan, opts) == "component 1 of the vector is NaN"
      assert refused(vector([1.0, 1.0]) <> infinity, opts) == "component 2 of the vector is inf"
    end

    test "of no whole number of floats, of too many or of another type is an error" do
      opts = [model: "org/name"]
      assert refused("abc", opts) == "expected a binary of 32-bit floats, got 3 bytes"
      assert refused(:abc, opts) =~ "got :abc"
      assert refused(<<1::3>>, opts) =~ "got <<1::size(3)>>"
      assert refused(vector(List.duplicate(1.0, 65_536)), opts) =~ "got 65536"
      assert 65_535 |> then(&List.duplicate(1.0, &1)) |> embedding() |> Embedding.dim() == 65_535
    end

    test "needs the name of its model" do
      assert refused(vector([1.0])) =~ "give its :model"

      assert_raise ArgumentError, ~r/expected :model with :commit, :kind/, fn ->
        Embedding.from_binary(vector([1.0]), commit: @commit, kind: :text)
      end

      for wrong <- [[model: :atom], [model: ""], [commit: 1], [kind: :video], [modell: "a"]] do
        assert_raise ArgumentError, fn ->
          Embedding.from_binary(vector([1.0]), Keyword.merge([model: "a"], wrong))
        end
      end
    end
  end

  describe "to_binary/1 and from_binary/2" do
    test "keep every field" do
      for kind <- [:picture, :text], commit <- [nil, @commit], model <- ["a", "Modell für Ä/ö"] do
        embedding = embedding([0.6, 0.8], kind: kind, commit: commit, model: model)
        assert embedding |> Embedding.to_binary() |> Embedding.from_binary() == {:ok, embedding}
      end
    end

    test "a binary with a header is not read as a bare vector" do
      # The name fills up to a whole number of floats.
      for size <- 1..4 do
        binary = Embedding.to_binary(embedding([1.0], model: String.duplicate("a", size)))
        assert {:ok, _} = Embedding.from_binary(binary)
        assert refused(binary, model: "a") =~ ~r/leave out :model|expected a binary of 32-bit/
      end
    end

    test "a binary that is cut or changed anywhere is an error" do
      whole = Embedding.to_binary(embedding([0.6, 0.8]))
      for size <- 0..(byte_size(whole) - 1), do: refused(binary_part(whole, 0, size))
      refused(whole <> <<0>>)

      for at <- 0..(byte_size(whole) - 1) do
        {before, <<byte, rest::binary>>} = :erlang.split_binary(whole, at)
        refused(<<before::binary, Bitwise.bxor(byte, 0x10), rest::binary>>)
      end
    end

    test "a damaged body under a right checksum is an error" do
      <<magic::binary-size(28), _crc::32, body::binary>> =
        Embedding.to_binary(embedding([0.6, 0.8]))

      sealed = fn body -> <<magic::binary, :erlang.crc32(body)::32-little, body::binary>> end
      assert {:ok, _} = body |> sealed.() |> Embedding.from_binary()

      for size <- 0..(byte_size(body) - 1) do
        part = body |> binary_part(0, size) |> sealed.()

        case Embedding.from_binary(part) do
          {:ok, embedding} -> assert Embedding.dim(embedding) == 1
          {:error, error} -> assert error.reason == :invalid_embedding
        end
      end

      <<_kind, rest::binary>> = body
      refused(sealed.(<<2, rest::binary>>))
      refused(sealed.(<<0, 1::16-little, 255, 0::16, vector([1.0])::binary>>))
      refused(sealed.(<<0, 0::16, 0::16, vector([1.0])::binary>>))
      refused(sealed.(<<0, 1::16-little, "a", 0::16, 0x7FC00000::32-little>>))
    end

    test "terms that are not binaries are errors" do
      for term <- [nil, 1, [], %{}, <<1::1>>], do: refused(term)
    end

    test "does not keep the memory of a large binary alive" do
      binary = Embedding.to_binary(embedding(List.duplicate(1.0, 100)))
      large = String.duplicate("x", 1_000_000) <> binary
      part = binary_part(large, 1_000_000, byte_size(binary))
      {:ok, embedding} = Embedding.from_binary(part)
      assert :binary.referenced_byte_size(embedding.vector) < 1_000
      assert :binary.referenced_byte_size(embedding.model) < 1_000
    end
  end

  describe "the forms of other libraries" do
    test "to_list/1 has the components" do
      assert Embedding.to_list(embedding([1.0, 0.0])) == [1.0, 0.0]
    end

    test "to_nx/1 has one axis of 32-bit floats" do
      tensor = Embedding.to_nx(embedding([0.6, 0.8]))
      assert Nx.shape(tensor) == {2}
      assert Nx.type(tensor) == {:f, 32}
      assert Nx.to_binary(tensor) == for(x <- [0.6, 0.8], into: <<>>, do: <<x::float-32-native>>)
    end

    test "to_pgvector/2 is what vector_send of pgvector writes" do
      # vector_send('[1,0.5]') is 00 02 00 00 3f 80 00 00 3f 00 00 00.
      wire = <<0, 2, 0, 0, 0x3F, 0x80, 0, 0, 0x3F, 0, 0, 0>>
      embedding = %{embedding([1.0, 0.0]) | vector: vector([1.0, 0.5])}
      assert Embedding.to_pgvector(embedding) == wire
      assert Embedding.to_pgvector(embedding, :wire) == wire
      assert Embedding.to_pgvector(embedding, :struct) == struct!(Pgvector, data: wire)
      assert_raise ArgumentError, fn -> Embedding.to_pgvector(embedding, :text) end
    end
  end

  describe "similarity/2" do
    test "is the cosine" do
      assert_in_delta Embedding.similarity(embedding([1.0, 0.0]), embedding([0.6, 0.8])),
                      0.6,
                      1.0e-6

      assert Embedding.similarity(embedding([1.0, 0.0]), embedding([-1.0, 0.0])) == -1.0
      same = embedding(List.duplicate(1.0, 300))
      assert_in_delta Embedding.similarity(same, same), 1.0, 1.0e-6
      assert Embedding.similarity(same, same) <= 1.0
    end

    test "compares pictures with texts" do
      assert Embedding.similarity(embedding([1.0]), embedding([1.0], kind: :text)) == 1.0
    end

    test "of two models, commits or lengths is an error that names both" do
      one = embedding([1.0, 0.0])

      for {other, name} <- [
            {embedding([1.0, 0.0], model: "other/name"), "other/name"},
            {embedding([1.0, 0.0], commit: "1f2e"), "1f2e"},
            {embedding([1.0, 0.0], commit: nil), ~s("org/name" \(2 dimensions\))},
            {embedding([1.0]), "1 dimensions"}
          ] do
        error = assert_raise Error, fn -> Embedding.similarity(one, other) end
        assert error.reason == :wrong_model
        assert error.message =~ name
        assert error.message =~ ~s("org/name" at #{@commit} \(2 dimensions\))
      end
    end
  end

  test "an embedding is shown briefly" do
    assert inspect(embedding(List.duplicate(1.0, 512))) ==
             ~s(#Image.ZeroShot.Embedding<picture, 512 dimensions, "org/name" at 3d74acf9a28c67>)

    assert inspect(embedding([1.0], commit: nil, kind: :text)) ==
             ~s(#Image.ZeroShot.Embedding<text, 1 dimensions, "org/name">)
  end

  test "a struct that is not an embedding can be shown" do
    whole = embedding([1.0])

    for key <- [:vector, :model, :commit, :kind] do
      assert inspect(Map.delete(whole, key)) =~ "%{"
      refute inspect(Map.delete(whole, key)) =~ "Inspect.Error"
    end

    refute inspect(%{whole | kind: {:a, 1}, vector: 1}) =~ "Inspect.Error"
  end

  test "Jason encodes an embedding as a list" do
    assert Jason.Encoder.impl_for(embedding([1.0])) == Jason.Encoder.Image.ZeroShot.Embedding
    assert embedding([1.0, 0.0]) |> Jason.encode!() |> IO.iodata_to_binary() == "[1.0,0.0]"
  end

  if Code.ensure_loaded?(JSON) do
    test "JSON of Elixir encodes an embedding as a list" do
      assert JSON.encode!(embedding([1.0, 0.0])) == "[1.0,0.0]"
    end
  end

  defp assert_close(embedding, floats) do
    for {x, y} <- Enum.zip(Embedding.to_list(embedding), floats),
        do: assert_in_delta(x, y, 1.0e-6)
  end
end
