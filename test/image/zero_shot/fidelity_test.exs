defmodule Image.ZeroShot.FidelityTest do
  # Equal to what Hugging Face transformers computes with the same model; training/goldens.py
  # wrote it down.
  use ExUnit.Case, async: true

  alias Image.ZeroShot
  alias Image.ZeroShot.{Model, Options, Picture}
  alias Image.ZeroShot.Test.{JSON, Safetensors}

  @folder "test/fixtures/goldens"
  @embedding_delta 1.0e-5
  @probability_delta 1.0e-4

  setup_all do
    {:ok, model} = Model.load(repo: :embedded, device: :cpu)

    %{
      model: model,
      expected: JSON.read!(Path.join(@folder, "emoji-clip.json")),
      tensors: Safetensors.read!(Path.join(@folder, "emoji-clip.safetensors"))
    }
  end

  test "pixels", %{model: model, expected: expected, tensors: tensors} do
    for {picture, golden} <- Enum.zip(expected["pictures"], tensors["pixels"]) do
      pixels = pixels(picture["file"], model)
      assert byte_size(pixels) == byte_size(golden)

      far =
        for {ours, theirs} <- Enum.zip(:binary.bin_to_list(pixels), :binary.bin_to_list(golden)),
            abs(ours - theirs) > 1,
            do: {ours, theirs}

      assert far == []
    end
  end

  test "embeddings of pictures", %{model: model, expected: expected, tensors: tensors} do
    pixels = Enum.map(expected["pictures"], &pixels(&1["file"], model))
    {:ok, embeddings} = Model.encode_images(model, tensors["pixels"])
    assert_rows(embeddings, tensors["image_embeddings"], @embedding_delta)

    # From the file itself: a pixel may be one level off, and shows in the fourth digit or so.
    {:ok, embeddings} = Model.encode_images(model, pixels)
    assert_rows(embeddings, tensors["image_embeddings"], 1.0e-2)
  end

  test "embeddings of texts", %{model: model, expected: expected, tensors: tensors} do
    prompts = Enum.map(expected["prompts"], & &1["text"])
    {:ok, {embeddings, _truncated}} = Model.encode_texts(model, prompts)
    assert_rows(embeddings, tensors["text_embeddings"], @embedding_delta)
  end

  test "probabilities", %{expected: expected, tensors: tensors} do
    for {picture, golden} <- Enum.zip(expected["pictures"], tensors["probabilities"]) do
      scores =
        {:path, path(picture["file"])}
        |> ZeroShot.classify(picture["candidates"],
          repo: :embedded,
          device: :cpu,
          template: template(expected["template"])
        )
        |> Map.new(&{&1.label, &1.score})

      for {label, theirs} <- Enum.zip(picture["candidates"], Safetensors.floats(golden)) do
        assert_in_delta scores[label], theirs, @probability_delta
      end
    end
  end

  test "the factor between cosine and softmax", %{model: model, expected: expected} do
    assert_in_delta Model.info(model).logit_scale, expected["logit_scale"], 1.0e-4
  end

  # The goldens' script is Python's: `str.format`.
  defp template(template), do: String.replace(template, ~r/\{\w*\}/, "{label}")

  defp path(file), do: Path.join("test/fixtures/emoji", file)

  defp pixels(file, model) do
    opts = Options.similarity!([])
    {:ok, picture} = Picture.open({:path, path(file)}, opts)
    {:ok, pixels} = Picture.pixels(picture, model, opts)
    pixels
  end

  defp assert_rows(embeddings, golden, delta) do
    ours = for <<float::float-32-native <- embeddings>>, do: float
    theirs = Enum.flat_map(golden, &Safetensors.floats/1)
    assert length(ours) == length(theirs)
    for {x, y} <- Enum.zip(ours, theirs), do: assert_in_delta(x, y, delta)
  end
end
