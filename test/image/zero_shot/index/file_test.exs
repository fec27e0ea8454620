defmodule Image.ZeroShot.Index.FileTest do
  use ExUnit.Case, async: true

  alias Image.ZeroShot.{Embedding, Error, Index}

  @moduletag :tmp_dir

  defp vector(seed) do
    binary = for i <- 1..24, into: <<>>, do: <<:math.sin(seed * i)::float-32-little>>
    {:ok, embedding} = Embedding.from_binary(binary, model: "m")
    embedding
  end

  defp filled(ids, opts \\ []) do
    index = Index.new(opts)

    :ok =
      Index.put_many(
        index,
        ids |> Enum.with_index(1) |> Enum.map(fn {id, i} -> {id, vector(i)} end)
      )

    index
  end

  test "a file keeps ids, vectors and model", %{tmp_dir: dir} do
    path = Path.join(dir, "all.index")
    ids = [1, -1.5, "ä", :ok, {1, [%{a: nil}]}, ~c"x", 2 ** 80, <<1::3>>]

    for storage <- [:f32, :f16, :i8] do
      index = filled(ids, storage: storage)
      assert Index.save(index, path) == :ok
      assert {:ok, loaded} = Index.load(path)
      assert Index.info(loaded).storage == storage
      assert Index.nearest(loaded, vector(3), k: 9) == Index.nearest(index, vector(3), k: 9)
      assert Enum.all?(ids, &Index.member?(loaded, &1))

      assert {:error, %Error{reason: :wrong_model}} =
               Index.put(loaded, 1, %{vector(1) | model: "n"})
    end

    assert {:error, %Error{reason: :index_full}} = Index.load(path, max_size: 7)
    assert File.ls!(dir) == ["all.index"]
  end

  test "ids that mean nothing elsewhere cannot be saved", %{tmp_dir: dir} do
    for id <- [self(), make_ref(), fn -> :ok end, {1, [self()]}] do
      assert_raise ArgumentError, ~r/ids of plain data/, fn ->
        Index.save(filled([id]), Path.join(dir, "x"))
      end
    end

    assert File.ls!(dir) == []
  end

  test "a damaged file is an error", %{tmp_dir: dir} do
    path = Path.join(dir, "all.index")
    :ok = Index.save(filled(Enum.to_list(1..50)), path)
    whole = File.read!(path)

    for at <- [0, 10, 30, 100, 2_000, byte_size(whole) - 1] do
      <<before::binary-size(at), byte, rest::binary>> = whole
      File.write!(path, [before, Bitwise.bxor(byte, 64), rest])
      assert {:error, %Error{reason: :invalid_index_file, message: message}} = Index.load(path)
      assert message =~ inspect(path) and message =~ "build it again"
      File.write!(path, before)
      assert {:error, %Error{reason: :invalid_index_file}} = Index.load(path)
    end

    none = Path.join(dir, "none")
    assert {:error, %Error{reason: :not_found, message: message}} = Index.load(none)
    assert message == "#{inspect(none)}: no such file"

    path = Path.join(none, "x")
    assert {:error, %Error{reason: :not_found, message: message}} = Index.save(Index.new(), path)
    assert message == "#{inspect(path)}: the directory #{inspect(none)} does not exist"

    for path <- ["", "a\0b", nil, :path] do
      assert_raise ArgumentError, ~r/expected a path that is not empty/, fn ->
        Index.load(path)
      end

      assert_raise ArgumentError, ~r/expected a path/, fn -> Index.save(Index.new(), path) end
    end
  end

  # Each is written with right checksums, as a stranger could.
  test "an id that makes an atom or a process, or is not a term, is an error", %{tmp_dir: dir} do
    path = Path.join(dir, "all.index")
    unknown = <<131, 119, 20, "an_atom_nobody_knows">>
    process = :erlang.term_to_binary(self())
    spaced = <<131, 98, 0, 0, 0, 1>>

    for id <- [unknown, process, spaced, <<131>>, "", <<131, 80, 0, 0, 0, 9, 1>>] do
      File.write!(path, file(id))
      assert {:error, %Error{reason: :invalid_index_file, message: message}} = Index.load(path)
      assert message =~ "has an id that"
    end

    File.write!(path, file(<<131, 97, 1>>))
    assert {:ok, index} = Index.load(path)
    assert Index.ids(index) == [1]
    assert_raise ArgumentError, fn -> String.to_existing_atom("an_atom_nobody" <> "_knows") end
  end

  defp file(id) do
    header = [0, <<1::32-little, 1::32-little>>, text("m"), 0, text("")]
    row = [text(id), <<1.0::float-32-little>>]

    Enum.reduce([header, row], "image_zero_shot index 1\n", fn section, before ->
      section = IO.iodata_to_binary(section)
      body = <<before::binary, byte_size(section)::32-little, section::binary>>
      <<body::binary, :erlang.crc32(body)::32-little>>
    end)
  end

  defp text(text), do: [<<byte_size(text)::32-little>>, text]

  test "a place that another process saves to is refused at once", %{tmp_dir: dir} do
    path = Path.join(dir, "all.index")
    index = filled([1])
    script = ~s(flock "$0.saving" sh -c 'echo locked; read end')
    port = Port.open({:spawn_executable, "/bin/sh"}, [:binary, args: ["-c", script, path]])
    assert_receive {^port, {:data, "locked\n"}}, 5_000
    assert {:error, %Error{reason: :overloaded, message: message}} = Index.save(index, path)
    assert message =~ "is being saved to the same place"
    Port.command(port, "end\n")
    assert saved(index, path) == :ok
    assert {:ok, _loaded} = Index.load(path)
  end

  # Until the lock is free.
  defp saved(index, path) do
    with {:error, %Error{reason: :overloaded}} <- Index.save(index, path) do
      Process.sleep(10)
      saved(index, path)
    end
  end
end
