defmodule Image.ZeroShot.SiglipTest do
  # A tiny SigLIP with random weights. The parity with transformers is tested in Rust.
  use ExUnit.Case, async: true

  alias Image.ZeroShot
  alias Image.ZeroShot.{Classifier, Serving}
  alias Image.ZeroShot.Test.Pictures

  @picture Pictures.sample("red-apple.png")
  @labels ["a dog", "two dogs and a cat", "x", "a house by the river"]
  @delta 1.0e-5

  setup_all do
    start!(__MODULE__.Siglip, "siglip")
    start!(__MODULE__.Metaclip, "metaclip-2")
    :ok
  end

  defp start!(name, fixture) do
    repo = {:local, Path.expand("test/fixtures/families/#{fixture}")}
    start_supervised!({Serving, name: name, repo: repo, device: :cpu}, id: name)
  end

  defp classify(labels, opts, serving \\ __MODULE__.Siglip),
    do: @picture |> ZeroShot.classify(labels, [serving: serving] ++ opts) |> by_label()

  defp by_label(results), do: Map.new(results, &{&1.label, &1.score})

  test "classify/3 keeps its contract: shares that sum to 1" do
    scores = classify(@labels, [])
    assert scores |> Map.values() |> Enum.sum() |> Float.round(6) == 1.0
    # The bias cancels out.
    logits = classify(@labels, scores: :logits)
    powers = Map.new(logits, fn {label, z} -> {label, :math.exp(z)} end)
    sum = powers |> Map.values() |> Enum.sum()
    for {label, score} <- scores, do: assert_in_delta(score, powers[label] / sum, @delta)
  end

  test "a background that the call gives competes, also the one that CLIP would get" do
    for opts <- [[], [scores: :sigmoid], [scores: :cosine]] do
      scores = classify(@labels, [other: ["a photo"]] ++ opts)
      # As a label it has the same score.
      others = classify(@labels ++ [{nil, "a photo"}], opts)
      assert Map.keys(scores) == Map.keys(others)
      for {label, score} <- others, do: assert_in_delta(scores[label], score, @delta)
    end

    scores = classify(@labels, other: ["a photo"], multi_label: true)
    logits = classify(@labels ++ [{:photo, "a photo"}], scores: :logits)

    for label <- @labels,
        do:
          assert_in_delta(
            scores[label],
            1 / (1 + :math.exp(logits[:photo] - logits[label])),
            @delta
          )
  end

  test "scores: :sigmoid and multi_label: true are the model's own probabilities" do
    {:ok, info} = ZeroShot.info(serving: __MODULE__.Siglip)
    assert {info.family, info.context_length, info.logit_bias} == {"siglip", 64, -1.25}
    expected = @labels |> classify(scores: :logits) |> Map.new(&sigmoid(&1, info.logit_bias))

    for opts <- [[scores: :sigmoid], [multi_label: true]] do
      scores = classify(@labels, opts)
      assert Map.keys(scores) == Map.keys(expected)
      for {label, score} <- scores, do: assert_in_delta(score, expected[label], @delta)
    end

    # One label has the same probability alone.
    assert_in_delta classify(["x"], scores: :sigmoid)["x"], expected["x"], @delta
  end

  test "an :other that was asked for is what multi_label compares with" do
    logits = classify(["a dog", "x"], scores: :logits)
    score = classify(["a dog"], multi_label: true, other: {:no, "a photo of x"})["a dog"]
    assert_in_delta score, 1 / (1 + :math.exp(logits["x"] - logits["a dog"])), @delta

    scores = classify(["a dog"], scores: :sigmoid, other: {:no, "a photo of x"})
    assert_in_delta scores[:no], classify(["x"], scores: :sigmoid)["x"], @delta
  end

  test "a classifier has the bias, also as a binary and for a stream" do
    opts = [serving: __MODULE__.Siglip]
    classifier = ZeroShot.classifier(@labels, [scores: :sigmoid] ++ opts)
    {:ok, read} = classifier |> Classifier.to_binary() |> Classifier.from_binary(opts)
    assert Classifier.info(read).model.logit_bias == -1.25
    expected = classify(@labels, scores: :sigmoid)

    for scores <- [classify(classifier, []), classify(read, scores: :sigmoid)],
        {label, score} <- scores,
        do: assert_in_delta(score, expected[label], @delta)

    many = ZeroShot.classify_many([@picture, @picture], read, [multi_label: true] ++ opts)

    for {:ok, results} <- many,
        {label, score} <- by_label(results),
        do: assert_in_delta(score, expected[label], @delta)
  end

  test "a prompt that is longer than the model reads is cut and named" do
    log =
      ExUnit.CaptureLog.capture_log(fn ->
        classify([String.duplicate("word ", 200)], template: nil)
      end)

    assert log =~ "longer than the 64 tokens that the model reads"
  end

  test "MetaCLIP 2 compares labels, as CLIP does" do
    scores = classify(@labels, [], __MODULE__.Metaclip)
    assert scores |> Map.values() |> Enum.sum() |> Float.round(6) == 1.0
    {:ok, info} = ZeroShot.info(serving: __MODULE__.Metaclip)
    assert {info.family, info.logit_bias} == {"metaclip_2", nil}

    assert {:error, %{reason: :unsupported_scores}} =
             ZeroShot.try_classify(@picture, @labels,
               serving: __MODULE__.Metaclip,
               scores: :sigmoid
             )
  end

  defp sigmoid({label, z}, bias), do: {label, 1 / (1 + :math.exp(-z - bias))}
end
