defmodule Image.ZeroShot.ClassifierTest do
  use ExUnit.Case, async: true

  import ExUnit.CaptureLog

  alias Image.ZeroShot.{Classifier, Labels, Options}
  alias Image.ZeroShot.Test.Embeddings

  describe "prompts that are too long" do
    setup do
      %{limit: Embeddings.info!().context_length}
    end

    test "are cut, and told of once", %{limit: limit} do
      long = String.duplicate("dog cat ", limit)
      labels = ["cat", long, "dog", "other " <> long]

      log =
        capture_log(fn ->
          assert %Classifier{} = build(labels)
        end)

      assert log =~ "2 of 4 prompts are longer than the #{limit} tokens that the model reads"
      assert log =~ ~s("a photo of dog cat dog cat)
      assert log =~ ~s("a photo of other dog cat)
      assert length(String.split(log, "prompts are longer")) == 2
    end

    test "are told of briefly", %{limit: limit} do
      labels = for n <- 1..20, do: "#{n} " <> String.duplicate("dog cat ", limit)
      log = capture_log(fn -> build(labels) end)
      assert log =~ "20 of 20 prompts"
      assert byte_size(log) < 800
    end

    test "are no matter where there are none" do
      assert capture_log(fn -> build(["cat", "dog"]) end) == ""
    end
  end

  test "there is a unit vector for each label" do
    labels = ["cat", "dog", "cat"]
    classifier = build(labels)

    assert Tuple.to_list(classifier.labels) == labels
    dim = Embeddings.info!().dim
    rows = for <<row::binary-size(dim)-unit(32) <- classifier.texts>>, do: floats(row)

    assert [cat, _dog, cat] = rows
    for row <- rows, do: assert_in_delta(Enum.sum(Enum.map(row, &(&1 * &1))), 1.0, 1.0e-5)
  end

  defp build(labels) do
    {:ok, labels} = Labels.new(labels, Options.classify!([]))
    {:ok, {texts, cut}} = Embeddings.texts(labels.prompts)
    embeddings = %{texts: texts, truncated: cut, news: cut != []}
    {:ok, classifier} = Classifier.new(labels, Embeddings.info!(), embeddings, [])
    classifier
  end

  defp floats(binary), do: for(<<float::float-32-native <- binary>>, do: float)
end
