defmodule Image.ZeroShot.Call.SuggestTest do
  use ExUnit.Case, async: true

  alias Image.ZeroShot
  alias Image.ZeroShot.Call.VocabularyCache
  alias Image.ZeroShot.Test.{JSON, Pictures}

  @moduletag :tmp_dir
  @folder "test/fixtures/emoji"
  @dog {:path, "priv/samples/dog.jpg"}

  setup %{tmp_dir: folder} do
    forget()
    %{opts: [repo: :embedded, device: :cpu, cache_dir: folder]}
  end

  describe "the nouns that come with the library" do
    test "have a dog for a picture of one, and ten results", %{opts: opts} do
      results = ZeroShot.suggest(@dog, opts)
      assert length(results) == 10
      assert hd(results).label == "dog"
      assert results == Enum.sort_by(results, & &1.score, :desc)
      assert Enum.sum(Enum.map(results, & &1.score)) <= 1.0
    end

    test "are text in lines, each once" do
      nouns = nouns()
      assert length(nouns) > 2_000
      assert nouns == Enum.uniq(nouns)
      for noun <- nouns, do: assert(noun =~ ~r/\A[\p{L}\d][\p{L}\d '-]*\z/u)
    end

    test "are as many as the documentation says" do
      {:docs_v1, _, _, _, _, _, functions} = Code.fetch_docs(ZeroShot)

      %{"en" => text} =
        Enum.find_value(functions, fn
          {{:function, :suggest, 2}, _, _, docs, _} -> docs
          _other -> nil
        end)

      assert [count] =
               Regex.run(~r/list of ([\d,]+) English nouns/, text, capture: :all_but_first)

      assert String.to_integer(String.replace(count, ",", "")) == length(nouns())
    end
  end

  test "the right name is among ten of a thousand for 9 of 10 pictures", %{opts: opts} do
    pictures = JSON.read!(Path.join(@folder, "labels.json"))
    names = pictures |> Enum.flat_map(& &1["candidates"]) |> Enum.uniq()
    assert length(names) > 1_000
    opts = [vocabulary: file(opts, names)] ++ opts

    found =
      for %{"file" => file, "label" => label} <- pictures,
          results = ZeroShot.suggest({:path, Path.join(@folder, file)}, opts),
          Enum.any?(results, &(&1.label == label)),
          do: file

    assert length(found) >= 180, "#{length(found)} of #{length(pictures)}"
  end

  describe "labels that mean the same" do
    test "are one result with the sum of their scores", %{opts: opts} do
      [one, two] = ZeroShot.suggest(@dog, [vocabulary: ["dog", "cat"]] ++ opts)
      [dogs | cats] = ZeroShot.suggest(@dog, [vocabulary: ["dog", "dogs", "Dog", "cat"]] ++ opts)
      assert one.label == "dog"
      assert String.downcase(dogs.label) in ["dog", "dogs"]
      assert cats |> Enum.map(& &1.label) == [two.label]
      assert_in_delta dogs.score + hd(cats).score, 1.0, 1.0e-6
    end

    test "do not take the places of others", %{opts: opts} do
      vocabulary = for(n <- 0..8, do: "dog" <> String.duplicate("-", n)) ++ ["cat", "pizza"]
      results = ZeroShot.suggest(@dog, [vocabulary: vocabulary, top_k: 3] ++ opts)
      assert length(results) == 3
      assert MapSet.subset?(MapSet.new(["cat", "pizza"]), MapSet.new(results, & &1.label))
    end
  end

  test "an embedding takes the place of its picture", %{opts: opts} do
    opts = [vocabulary: ["cat", "dog"]] ++ opts
    embedding = ZeroShot.embed(@dog, Keyword.delete(opts, :vocabulary))
    [a, b] = ZeroShot.suggest(@dog, opts)
    [c, d] = ZeroShot.suggest(embedding, opts)
    assert [a.label, b.label] == [c.label, d.label]
    assert_in_delta a.score, c.score, 1.0e-5
  end

  test "a picture that can be read once is read once", %{opts: opts} do
    test = self()

    picture = %Image.ZeroShot.Test.Upload{
      path:
        {:call,
         fn ->
           send(test, :read)
           {:ok, {:encoded, Pictures.sample_bytes("dog.jpg")}}
         end}
    }

    assert [%{label: "dog"}, _] = ZeroShot.suggest(picture, [vocabulary: ["cat", "dog"]] ++ opts)
    assert_received :read
    refute_received :read
  end

  describe "the compiled vocabulary" do
    # Another test may have used the same words.
    setup do: forget()

    test "is written, and read by the next VM", %{opts: opts} do
      opts = [vocabulary: file(opts, ["cat", "dog", "pizza"])] ++ opts
      first = ZeroShot.suggest(@dog, opts)
      assert [written] = files(opts)
      before = File.stat!(written)

      forget()
      assert ZeroShot.suggest(@dog, opts) == first
      assert Map.take(File.stat!(written), [:inode, :mtime]) == Map.take(before, [:inode, :mtime])
    end

    test "is computed again where the file is damaged or another's", %{opts: opts} do
      opts = [vocabulary: file(opts, ["cat", "dog", "pizza"])] ++ opts
      first = ZeroShot.suggest(@dog, opts)
      [written] = files(opts)
      whole = File.read!(written)
      other = ZeroShot.classifier(["a", "b", "c"], Keyword.delete(opts, :vocabulary))

      for damage <- ["", binary_part(whole, 0, 100), ZeroShot.Classifier.to_binary(other)] do
        File.write!(written, damage)
        forget()
        [best | _] = ZeroShot.suggest(@dog, opts)
        assert best.label == hd(first).label
        assert_in_delta best.score, hd(first).score, 1.0e-5
        assert byte_size(File.read!(written)) == byte_size(whole)
      end
    end

    test "of a list stays in memory", %{opts: opts} do
      assert [_, _] = ZeroShot.suggest(@dog, [vocabulary: ["cat", "dog"]] ++ opts)
      assert files(opts) == []
    end

    test "is no file where the cache cannot be written", %{opts: opts, tmp_dir: folder} do
      blocked = Path.join(folder, "a file")
      File.write!(blocked, "")
      opts = [vocabulary: file(opts, ["cat", "dog"]), cache_dir: blocked] ++ opts
      assert [%{label: "dog"}, _] = ZeroShot.suggest(@dog, opts)
    end
  end

  describe "what is wrong" do
    test "with the picture is told before the vocabulary is embedded", %{opts: opts} do
      assert {:error, %{reason: :not_found}} = ZeroShot.try_suggest({:path, "no.jpg"}, opts)
      assert {:error, %{reason: :invalid_image}} = ZeroShot.try_suggest("no picture", opts)
    end

    test "with the vocabulary is an error that names it", %{opts: opts, tmp_dir: folder} do
      missing = Path.join(folder, "missing.txt")
      {:error, error} = ZeroShot.try_suggest(@dog, [vocabulary: missing] ++ opts)
      assert error.reason == :not_found
      assert error.message =~ "missing.txt"

      for other <- [folder, "/dev/zero"] do
        {:error, error} = ZeroShot.try_suggest(@dog, [vocabulary: other] ++ opts)
        assert {error.reason, error.message =~ "not a regular file"} == {:io, true}
      end

      for {vocabulary, expected} <- [
            {[], "expected :vocabulary to hold at least one label, got: []"},
            {["dog", 1], "index 1"},
            {file(opts, []), "at least one label"},
            {[{"dog", {:picture, @dog}}], "words only"},
            {file(opts, ["dog", <<255>>]), "index 1"}
          ] do
        {:error, error} = ZeroShot.try_suggest(@dog, [vocabulary: vocabulary] ++ opts)
        assert error.reason == :invalid_label
        assert error.message =~ expected
      end

      assert_raise ArgumentError,
                   ~r/:vocabulary to be a list of labels, the path of a file with them or nil/,
                   fn ->
                     ZeroShot.suggest(@dog, [vocabulary: :nouns] ++ opts)
                   end
    end

    test "with options of other calls raises", %{opts: opts} do
      for opt <- [other: "x", multi_label: true, scores: :cosine] do
        assert_raise ArgumentError, ~r/unknown option/, fn ->
          ZeroShot.suggest(Pictures.sample("dog.jpg"), [opt | opts])
        end
      end
    end
  end

  test "vocabularies with the same prompts, otherwise divided, are two", %{opts: opts} do
    for labels <- [
          [{"A", ["a dog", "a puppy"]}, {"B", ["a cat"]}],
          [{"A", ["a dog"]}, {"B", ["a puppy", "a cat"]}]
        ] do
      ours = ZeroShot.suggest(@dog, [vocabulary: labels] ++ opts)
      theirs = ZeroShot.classify(@dog, labels, opts)

      for {a, b} <- Enum.zip(ours, theirs),
          do: assert_in_delta(:math.log(a.score), :math.log(b.score), 0.01)
    end
  end

  test "a file may begin with a byte order mark", %{opts: opts} do
    opts = [vocabulary: file(opts, ["\uFEFFdog", "cat"])] ++ opts
    assert [%{label: "dog"}, %{label: "cat"}] = ZeroShot.suggest(@dog, opts)
  end

  test "top_k: nil returns all labels that mean different things", %{opts: opts} do
    results = ZeroShot.suggest(@dog, [top_k: nil] ++ opts)
    assert length(results) in 1_000..length(nouns())
    assert_in_delta results |> Enum.map(& &1.score) |> Enum.sum(), 1.0, 1.0e-6
    assert results == ZeroShot.suggest(@dog, [top_k: 1_000_000] ++ opts)
  end

  test ":min_score and :top_k bound the results", %{opts: opts} do
    opts = [vocabulary: ["cat", "dog", "pizza"]] ++ opts
    assert [%{label: "dog"}] = ZeroShot.suggest(@dog, [top_k: 1] ++ opts)
    assert [%{label: "dog"}] = ZeroShot.suggest(@dog, [min_score: 0.5] ++ opts)
  end

  defp nouns, do: "priv/vocabulary/nouns.txt" |> File.read!() |> String.split("\n", trim: true)

  defp file(opts, lines) do
    path = Path.join(opts[:cache_dir], "words-#{System.unique_integer([:positive])}.txt")
    File.write!(path, Enum.join(lines, "\r\n"))
    path
  end

  defp files(opts), do: Path.wildcard(Path.join(opts[:cache_dir], "vocabularies/*"))

  # As the end of the VM does.
  defp forget, do: :sys.replace_state(VocabularyCache, &%{&1 | kept: []})
end
