defmodule Image.ZeroShot.EnsembleTest do
  # Equal to what open_clip builds with the same random weights, which
  # test/oracle/zero_shot_classifier.py wrote down.
  use ExUnit.Case, async: true

  alias Image.ZeroShot
  alias Image.ZeroShot.Classifier
  alias Image.ZeroShot.Classifier.Scores
  alias Image.ZeroShot.Call.Options
  alias Image.ZeroShot.Test.{Embeddings, JSON, Safetensors}

  @folder "test/fixtures/zero-shot-classifier"
  @theirs [repo: {:local, @folder}, device: :cpu]
  @embedded [repo: :embedded, device: :cpu]
  @delta 1.0e-5

  setup_all do
    %{
      expected: JSON.read!(Path.join(@folder, "goldens.json")),
      tensors: Safetensors.read!(Path.join(@folder, "goldens.safetensors"))
    }
  end

  describe "with open_clip's weights" do
    for list <- [:openai_imagenet, :simple_imagenet] do
      @tag capture_log: true
      test "#{list} makes open_clip's classifier", %{expected: expected, tensors: tensors} do
        list = unquote(list)
        classifier = compile(expected["labels"], [template: list] ++ @theirs)
        golden = tensors["#{list}.classifier"]
        assert tuple_size(classifier.labels) == length(golden)

        for {ours, theirs} <- Enum.zip(rows(classifier), golden),
            do: assert_near(ours, Safetensors.floats(theirs))

        # The words themselves, given as a list, are the same.
        words = expected["templates"][Atom.to_string(list)]
        again = compile(expected["labels"], [template: words] ++ @theirs)
        assert again.texts == classifier.texts
      end

      @tag capture_log: true
      test "#{list} makes open_clip's logits", %{expected: expected, tensors: tensors} do
        list = unquote(list)
        classifier = compile(expected["labels"], [template: list] ++ @theirs)
        opts = Options.classified!([scores: :logits], classifier.opts)

        for {pixels, golden} <- Enum.zip(tensors["pixels"], tensors["#{list}.logits"]) do
          {:ok, image} = Embeddings.images([pixels], @theirs)
          {:ok, results} = Scores.rank(classifier, image, {nil, <<>>}, opts)
          logits = Map.new(results, &{&1.label, &1.score / classifier.model.logit_scale})

          for {label, theirs} <- Enum.zip(expected["labels"], Safetensors.floats(golden)),
              do: assert_in_delta(logits[label], theirs / classifier.model.logit_scale, @delta)
        end
      end
    end

    @tag capture_log: true
    test "a label is known by those of its prompts that were cut", %{expected: expected} do
      classifier = compile(expected["labels"], [template: :simple_imagenet] ++ @theirs)

      assert Classifier.info(classifier).truncated == [List.last(expected["labels"])]
    end
  end

  describe "a label of several prompts" do
    test "is the mean direction of their embeddings, each of length 1 first" do
      prompts = ["a photo of a cat", "an umbrella", "rocket"]
      {:ok, {texts, []}} = Embeddings.texts(prompts)
      embedded = texts |> floats() |> Enum.chunk_every(128)
      for row <- embedded, do: assert_in_delta(length_of(row), 1.0, @delta)

      mean = embedded |> Enum.zip_with(&(Enum.sum(&1) / 3))
      size = length_of(mean)
      # Shorter than 1, or the second normalisation would be none.
      assert size < 0.999

      classifier = compile([{"cat", prompts}], @embedded)
      assert [row] = rows(classifier)
      assert_near(row, Enum.map(mean, &(&1 / size)))
      assert_in_delta length_of(row), 1.0, @delta
    end

    test "is the same by templates, by a list of prompts and by a map" do
      templates = ["a photo of a {label}", "a drawing of a {label}", nil]
      prompts = &["a photo of a #{&1}", "a drawing of a #{&1}", &1]
      pairs = for label <- ["cat", "dog"], do: {label, prompts.(label)}

      expected = compile(["cat", "dog"], [template: templates] ++ @embedded)
      assert compile(pairs, @embedded).texts == expected.texts
      assert compile(Map.new(pairs), @embedded).texts == expected.texts
    end

    test "that is one prompt again and again is that prompt" do
      [once, thrice] = rows(compile([{1, "a cat"}, {2, List.duplicate("a cat", 3)}], @embedded))

      assert_near(once, thrice)
    end

    test "does not depend on the prompts' order, or on the labels beside it" do
      prompts = ["a cat", "the cat", "my cat", "one cat"]
      [expected] = rows(compile([{:cat, prompts}], @embedded))

      others = [{:dog, ["a dog", "my dog"]}, {:cat, Enum.reverse(prompts)}, {:bird, "a bird"}]
      [_dog, cat, _bird] = rows(compile(others, @embedded))
      assert_near(cat, expected)
    end
  end

  test "more prompts than one part makes are the same as in parts of their own" do
    labels = for n <- 1..9, do: "thing #{n}"
    opts = [template: :openai_imagenet] ++ @embedded
    # 720 prompts, of which 512 or fewer go together.
    whole = compile(labels, opts)
    alone = for label <- labels, do: compile([label], opts)

    assert Tuple.to_list(whole.labels) == labels

    for {row, classifier} <- Enum.zip(rows(whole), alone),
        do: assert_near(row, hd(rows(classifier)))
  end

  # The serving answers first and remembers then; what it is asked next comes after both.
  defp compile(labels, opts) do
    classifier = ZeroShot.classifier(labels, opts)
    {:ok, _info} = opts |> Keyword.take([:repo, :device]) |> ZeroShot.info()
    classifier
  end

  defp rows(%{texts: texts, model: %{dim: dim}}),
    do: texts |> floats() |> Enum.chunk_every(dim)

  defp floats(binary), do: for(<<float::float-32-native <- binary>>, do: float)

  defp length_of(row), do: row |> Enum.map(&(&1 * &1)) |> Enum.sum() |> :math.sqrt()

  defp assert_near(a, b) do
    assert length(a) == length(b)
    for {x, y} <- Enum.zip(a, b), do: assert_in_delta(x, y, @delta)
  end
end
