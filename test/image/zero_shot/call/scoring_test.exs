defmodule Image.ZeroShot.ScoringTest do
  # Each row of the table in the documentation of `Image.ZeroShot`, computed a second time here.
  use ExUnit.Case, async: true

  alias Image.ZeroShot
  alias Image.ZeroShot.{Error, Serving}
  alias Image.ZeroShot.Test.{Embeddings, Pictures}

  # Of its own: in one batch with pictures of other tests, this one's last digits would be others.
  @opts [serving: __MODULE__.Clip]
  @picture Pictures.sample("red-apple.png")
  @labels ["red apple", "pizza", "cherries", "umbrella"]
  @prompts Enum.map(@labels, &"a photo of #{&1}")
  @other ["a photo of food", "a photo of a tool"]
  @delta 1.0e-6

  # Small enough that no score is all or nothing.
  @scale 20.0

  setup_all do
    start_supervised!({Serving, name: __MODULE__.Clip, repo: :embedded, device: :cpu})
    info = Embeddings.info!(@opts)
    {:ok, pixels} = Pictures.pixels(@picture, info.preprocessing)
    {:ok, image} = Embeddings.images([pixels], @opts)
    %{image: floats(image), scale: info.logit_scale}
  end

  describe "softmax" do
    test "is a label's share of all labels", %{image: image, scale: scale} do
      for {opts, scale} <- [{[], scale}, {[scores: :softmax, logit_scale: @scale], @scale}] do
        powers = powers(image, @prompts, scale)
        sum = Enum.sum(powers)
        assert_scores(classify(opts), Enum.zip(@labels, Enum.map(powers, &(&1 / sum))))
      end
    end

    test "has :other as one more, with all of its prompts", %{image: image} do
      for {other, name, prompts} <- others() do
        labels = powers(image, @prompts, @scale)
        rest = image |> powers(prompts, @scale) |> Enum.sum()
        sum = Enum.sum(labels) + rest
        expected = Enum.zip(@labels ++ [name], Enum.map(labels ++ [rest], &(&1 / sum)))

        results = classify(other: other, logit_scale: @scale)
        assert_scores(results, expected)
        assert_in_delta results |> Enum.map(& &1.score) |> Enum.sum(), 1.0, @delta
      end
    end

    test "of one label and :other picks the better of the two" do
      assert ZeroShot.label(@picture, ["red apple"], [other: "umbrella"] ++ @opts) == "red apple"
      assert ZeroShot.label(@picture, ["umbrella"], [other: "red apple"] ++ @opts) == "red apple"
      assert ZeroShot.label(@picture, ["umbrella"], [other: ["red apple"]] ++ @opts) == nil
      assert ZeroShot.label(@picture, ["umbrella"], [other: {:no, "red apple"}] ++ @opts) == :no
    end
  end

  describe "multi_label" do
    test "compares each label with the background alone", %{image: image} do
      for {other, _name, prompts} <- [{nil, nil, ["a photo"]} | others()] do
        rest = image |> powers(prompts, @scale) |> Enum.sum()
        expected = for power <- powers(image, @prompts, @scale), do: power / (power + rest)
        opts = [multi_label: true, other: other, logit_scale: @scale]
        assert_scores(classify(opts), Enum.zip(@labels, expected))

        # Whatever the others are.
        for {label, score} <- Enum.zip(@labels, expected) do
          results = classify([label], opts)
          assert_scores(results, [{label, score}])
        end
      end
    end

    test "has one row of a label, whatever the templates make of it" do
      templates = [template: List.duplicate("a photo of {label}", 3)]

      for opts <- [[multi_label: true, other: "food"], [other: "food"]] do
        expected = for %{label: label, score: score} <- classify(opts), do: {label, score}
        assert_scores(classify(opts ++ templates), expected)
      end
    end

    test "of one label compares it with the background" do
      opts = [multi_label: true, min_score: 0.5] ++ @opts
      assert ZeroShot.label(@picture, ["red apple"], opts) == "red apple"
      assert ZeroShot.label(@picture, ["umbrella"], [other: "red apple"] ++ opts) == nil
    end

    test "has scores of its own" do
      for scores <- [:logits, :cosine] do
        message =
          "expected no :scores together with multi_label: true, which has scores of its own, got: " <>
            inspect(scores)

        for verb <- [&ZeroShot.classify/3, &ZeroShot.try_label/3] do
          assert_raise ArgumentError, message, fn ->
            verb.(@picture, @labels, [multi_label: true, scores: scores] ++ @opts)
          end
        end
      end

      assert classify(multi_label: true, scores: :softmax) == classify(multi_label: true)
    end
  end

  test "logits are cosines times the scale, and of :other the logarithm of the sum",
       %{image: image, scale: scale} do
    expected = for cosine <- cosines(image, @prompts), do: scale * cosine
    assert_scores(classify(scores: :logits), Enum.zip(@labels, expected), 1.0e-4)

    for {other, name, prompts} <- others() do
      rest = image |> powers(prompts, @scale) |> Enum.sum() |> :math.log()
      expected = for cosine <- cosines(image, @prompts), do: @scale * cosine

      assert_scores(
        classify(scores: :logits, other: other, logit_scale: @scale),
        Enum.zip(@labels ++ [name], expected ++ [rest]),
        1.0e-5
      )
    end
  end

  test "cosines are cosines, and of :other the highest", %{image: image} do
    expected = Enum.zip(@labels, cosines(image, @prompts))
    assert_scores(classify(scores: :cosine), expected)
    # The scale is no matter.
    assert_scores(classify(scores: :cosine, logit_scale: 3), expected)

    for {other, name, prompts} <- others() do
      best = image |> cosines(prompts) |> Enum.max()
      assert_scores(classify(scores: :cosine, other: other), expected ++ [{name, best}])
    end
  end

  test "a model without a bias has no :sigmoid scores, and the error says what to take instead" do
    {:error, error} = ZeroShot.try_classify(@picture, @labels, [scores: :sigmoid] ++ @opts)
    assert error.reason == :unsupported_scores
    assert error.message =~ "(128 dimensions) does not have"
    assert error.message =~ "take multi_label: true"

    # Before anything is embedded, also where labels are compiled.
    assert {:error, %{reason: :unsupported_scores}} =
             ZeroShot.try_classifier(@labels, [scores: :sigmoid] ++ @opts)
  end

  test "a smaller :logit_scale makes scores more alike, and their order is the same" do
    [sharp, flat, even] = for scale <- [100, 5.0, 1.0e-9], do: classify(logit_scale: scale)
    assert labels(sharp) == labels(flat)
    assert hd(sharp).score > hd(flat).score
    for %{score: score} <- even, do: assert_in_delta(score, 0.25, @delta)
    assert [%{score: 1.0} | _] = classify(logit_scale: 1.0e6)
  end

  describe "what is kept" do
    test "is the best by :top_k, with scores of the whole" do
      all = classify(other: "food")

      for top <- [1, 3, 5, 6, 4_294_967_295],
          do: assert(classify(other: "food", top_k: top) == Enum.take(all, top))
    end

    test "is what reaches :min_score" do
      all = classify(scores: :cosine)
      third = Enum.at(all, 2).score
      assert classify(scores: :cosine, min_score: third) == Enum.take(all, 3)
      assert classify(scores: :cosine, min_score: third, top_k: 2) == Enum.take(all, 2)
      assert classify(scores: :cosine, min_score: -1) == all
      assert classify(scores: :cosine, min_score: 1) == []
      assert classify(min_score: 1) == []
    end

    test "is nil for label/3 if no label is kept" do
      label = fn opts -> ZeroShot.label(@picture, @labels, opts ++ @opts) end
      assert label.(min_score: 1) == nil
      assert label.(min_score: 0.3) == "red apple"
      assert label.(top_k: 3) == "red apple"
      assert ZeroShot.try_label(@picture, @labels, [min_score: 1] ++ @opts) == {:ok, nil}
    end
  end

  describe "errors:" do
    test "an option with a wrong value is an error that says what it takes" do
      for {name, values, expected} <- [
            {:scores, [:probability, nil, "cosine"], ":softmax, :sigmoid, :logits or :cosine"},
            {:multi_label, [nil, 1, :true?], "true or false"},
            {:top_k, [0, -1, 1.0, 2 ** 32], "an integer from 1 to 4294967295 or nil"},
            {:min_score, ["0.5", :none, 2 ** 2000], "a number from -1.0e6 to 1.0e6 or nil"},
            {:logit_scale, [0, -1, 0.0, 1.0e7, "1", 2 ** 2000],
             "a positive number of at most 1.0e6 or nil"},
            {:other, [:none, [], {:no, []}, {:no, :none}, %{}, 1],
             "a label, a list of prompts, {label, prompts} or nil"}
          ],
          value <- values do
        message = "expected #{inspect(name)} to be #{expected}, got: #{inspect(value)}"
        assert_raise ArgumentError, message, fn -> classify([{name, value}]) end
      end
    end

    test ":min_score above every score there can be is an error" do
      for {opts, scores} <- [
            {[min_score: 50], ":softmax"},
            {[min_score: 1.01, multi_label: true], ":softmax"},
            {[min_score: 2, scores: :cosine], ":cosine"}
          ] do
        expected = "at most 1, the highest score there is with scores: #{scores}"
        assert_raise ArgumentError, ~r/#{expected}/, fn -> classify(opts) end
      end

      assert classify(min_score: 1_000, scores: :logits) == []
    end

    @tag capture_log: true
    test ":other may be as long as a label" do
      other = String.duplicate("é", 2_048)
      assert {:ok, [_, _]} = ZeroShot.try_classify(@picture, ["dog"], [other: other] ++ @opts)
    end

    test ":other with the name of a label is an error" do
      expected = fn shown ->
        {:error,
         %Error{
           reason: :invalid_label,
           message:
             "label at index 1 and :other have the same name, #{shown}; leave out one of them, or " <>
               "give :other a name of its own, as {name, prompts}"
         }}
      end

      for {labels, other, shown} <- [
            {["cat", "dog"], "dog", ~s("dog")},
            {["cat", "dog"], {"dog", ["a wolf"]}, ~s("dog")},
            {[{1, "cat"}, {nil, "dog"}], ["a wolf"], "nil"}
          ] do
        opts = [other: other] ++ @opts
        classifier = ZeroShot.classifier(labels, @opts)
        assert ZeroShot.try_classify(@picture, labels, opts) == expected.(shown)
        assert ZeroShot.try_label(@picture, classifier, other: other) == expected.(shown)
        assert ZeroShot.try_classifier(labels, opts) == expected.(shown)

        {:error, %Error{message: message}} = expected.(shown)
        embedding = ZeroShot.embed(@picture, @opts)

        assert [{_embedding, {:error, %Error{message: ^message}}}] =
                 [embedding] |> ZeroShot.classify_many(classifier, other: other) |> Enum.to_list()
      end

      # There it has no result.
      opts = [other: "dog", multi_label: true] ++ @opts
      assert {:ok, [_, _]} = ZeroShot.try_classify(@picture, ["cat", "dog"], opts)

      # Terms are compared by ===.
      assert {:ok, _} =
               ZeroShot.try_classify(@picture, %{1 => "cat"}, [other: {1.0, "dog"}] ++ @opts)
    end

    test "wrong prompts of :other are an error like those of a label" do
      for {other, fault} <- [
            {<<255>>, "is not valid UTF-8: <<255>>"},
            {String.duplicate("a", 4_097),
             "has 4097 bytes, more than :max_label_bytes, which is 4096"},
            {["a", <<255>>], "is not valid UTF-8: <<255>>"},
            {["a", :b], "is not a string: :b"},
            {{:no, ["a", 1]}, "is not a string: 1"},
            {["a" | "b"], ~s(has prompts that are not a list: ["a" | "b"])},
            {List.duplicate("a", 1_001), "has more than 1000 prompts"}
          ] do
        expected = %Error{
          reason: :invalid_label,
          message: "the background given as :other #{fault}"
        }

        assert ZeroShot.try_classify(@picture, @labels, [other: other] ++ @opts) ==
                 {:error, expected}

        assert ZeroShot.try_classifier(@labels, [other: other] ++ @opts) == {:error, expected}
      end
    end
  end

  # What `:other` may be, the label in the results, and its prompts.
  defp others do
    [
      {"food", "food", ["a photo of food"]},
      {@other, nil, @other},
      {{:none, @other}, :none, @other},
      {{"none", "food"}, "none", ["food"]}
    ]
  end

  # The serving answers first and remembers then; what it is asked next comes after both.
  defp classify(labels \\ @labels, opts) do
    results = ZeroShot.classify(@picture, labels, opts ++ @opts)
    {:ok, _info} = ZeroShot.info(@opts)
    results
  end

  defp labels(results), do: Enum.map(results, & &1.label)

  defp cosines(image, prompts) do
    {:ok, {texts, []}} = Embeddings.texts(prompts, @opts)

    for row <- texts |> floats() |> Enum.chunk_every(length(image)),
        do: [row, image] |> Enum.zip_with(fn [x, y] -> x * y end) |> Enum.sum()
  end

  defp powers(image, prompts, scale),
    do: for(cosine <- cosines(image, prompts), do: :math.exp(scale * cosine))

  defp floats(binary), do: for(<<float::float-32-native <- binary>>, do: float)

  # All of them, and best first.
  defp assert_scores(results, expected, delta \\ @delta) do
    expected = Enum.sort_by(expected, &elem(&1, 1), :desc)
    assert labels(results) == Enum.map(expected, &elem(&1, 0))

    for {%{score: ours}, {_label, theirs}} <- Enum.zip(results, expected),
        do: assert_in_delta(ours, theirs, delta)
  end
end
