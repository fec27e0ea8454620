defmodule Image.ZeroShot.FidelityTest do
  # Equal to what Hugging Face transformers computes with the same model; training/goldens.py
  # wrote it down.
  use ExUnit.Case, async: true

  alias Image.ZeroShot
  alias Image.ZeroShot.Classifier
  alias Image.ZeroShot.Classifier.Scores
  alias Image.ZeroShot.Call.{Labels, Options}
  alias Image.ZeroShot.Test.{Embeddings, JSON, Pictures, Safetensors}

  @folder "test/fixtures/goldens"
  @embedding_delta 1.0e-5
  @probability_delta 1.0e-4

  setup_all do
    %{
      info: Embeddings.info!(),
      expected: JSON.read!(Path.join(@folder, "emoji-clip.json")),
      tensors: Safetensors.read!(Path.join(@folder, "emoji-clip.safetensors"))
    }
  end

  test "pixels equal the reference's", %{info: info, expected: expected, tensors: tensors} do
    for {picture, golden} <- Enum.zip(expected["pictures"], tensors["pixels"]) do
      pixels = pixels(picture["file"], info)
      assert byte_size(pixels) == byte_size(golden)

      far =
        for {ours, theirs} <- Enum.zip(:binary.bin_to_list(pixels), :binary.bin_to_list(golden)),
            abs(ours - theirs) > 1,
            do: {ours, theirs}

      assert far == []
    end
  end

  test "embeddings of pictures equal the reference's", %{tensors: tensors} do
    {:ok, embeddings} = Embeddings.images(tensors["pixels"])
    assert_rows(embeddings, tensors["image_embeddings"], @embedding_delta)
  end

  test "embeddings of texts equal the reference's", %{expected: expected, tensors: tensors} do
    prompts = Enum.map(expected["prompts"], & &1["text"])
    {:ok, {embeddings, _truncated}} = Embeddings.texts(prompts)
    assert_rows(embeddings, tensors["text_embeddings"], @embedding_delta)
  end

  test "probabilities equal the reference's", %{info: info, expected: expected, tensors: tensors} do
    opts = Options.classify!(template: template(expected["template"]))
    goldens = Enum.zip([expected["pictures"], tensors["pixels"], tensors["probabilities"]])

    for {%{"candidates" => labels}, pixels, golden} <- goldens do
      {:ok, embedding} = Embeddings.images([pixels])
      {:ok, labels} = Labels.new(labels, opts)
      {:ok, {texts, []}} = Embeddings.texts(labels.prompts)
      embeddings = %{texts: texts, truncated: [], news: false}
      {:ok, classifier} = Classifier.new(labels, info, embeddings, nil, opts, [])
      {:ok, results} = Scores.rank(classifier, embedding, {nil, <<>>}, opts)
      scores = Map.new(results, &{&1.label, &1.score})
      assert_probabilities(scores, labels.terms, golden, @probability_delta)
    end
  end

  test "probabilities from a file equal the reference's", %{expected: expected, tensors: tensors} do
    template = template(expected["template"])
    opts = [repo: :embedded, device: :cpu, template: template]

    for {picture, golden} <- Enum.zip(expected["pictures"], tensors["probabilities"]) do
      labels = picture["candidates"]
      scores = ZeroShot.classify({:path, path(picture["file"])}, labels, opts)

      # One pixel in a hundred is a level off, which is as much as the resizing may differ.
      assert_probabilities(Map.new(scores, &{&1.label, &1.score}), labels, golden, 1.0e-3)
    end
  end

  test "the factor between cosine and softmax is the checkpoint's", %{
    info: info,
    expected: expected
  } do
    assert_in_delta info.logit_scale, expected["logit_scale"], 1.0e-4
  end

  # The goldens' script is Python's: `str.format`.
  defp template(template), do: String.replace(template, ~r/\{\w*\}/, "{label}")

  defp path(file), do: Path.join("test/fixtures/emoji", file)

  defp pixels(file, info) do
    {:ok, pixels} = Pictures.pixels({:path, path(file)}, info.preprocessing)
    pixels
  end

  defp assert_probabilities(scores, labels, golden, delta) do
    for {label, theirs} <- Enum.zip(labels, Safetensors.floats(golden)) do
      assert_in_delta scores[label], theirs, delta
    end
  end

  defp assert_rows(embeddings, golden, delta) do
    ours = for <<float::float-32-native <- embeddings>>, do: float
    theirs = Enum.flat_map(golden, &Safetensors.floats/1)
    assert length(ours) == length(theirs)
    for {x, y} <- Enum.zip(ours, theirs), do: assert_in_delta(x, y, delta)
  end
end
