defmodule Image.ZeroShot.ClassifierTest do
  use ExUnit.Case, async: true

  import ExUnit.CaptureLog

  alias Image.ZeroShot.{Classifier, Error, Options}
  alias Image.ZeroShot.Test.Embeddings

  defp refused(labels, opts \\ []) do
    assert {:error, %Error{} = error} = Classifier.check(labels, Options.classify!(opts))
    assert error.reason == :invalid_label
    error.message
  end

  test "labels are strings, as many and as long as the limits allow" do
    opts = Options.classify!(max_labels: 3, max_label_bytes: 4)

    for labels <- [["a"], ["a", "a", "b"], [""], ["ünü"], ["a\0b"], ["🐶"]] do
      if Enum.all?(labels, &(byte_size(&1) <= 4)) do
        assert Classifier.check(labels, opts) == {:ok, labels}
      end
    end

    assert {:ok, _} = Classifier.check([String.duplicate("a", 4_096)], Options.classify!([]))
  end

  test "a list without labels, or no list, is refused" do
    assert refused([]) == "expected at least one label, got: []"
    assert refused("dog") == ~s(expected a list of labels, got: "dog")
    assert refused(nil) == "expected a list of labels, got: nil"
    assert refused(%{"dog" => 1}) == ~s(expected a list of labels, got: %{"dog" => 1})
    assert refused(["dog" | "cat"]) == ~s(expected a list of labels, got: "cat")
  end

  test "a label that is no string is named by its index" do
    assert refused(["dog", :cat]) == "the label at index 1 is no string: :cat"
    assert refused([nil]) == "the label at index 0 is no string: nil"
    assert refused([~c"dog"]) =~ "the label at index 0 is no string: "
    assert refused(["a", "b", <<1::1>>]) == "the label at index 2 is no string: <<1::size(1)>>"
  end

  test "a label that is no valid UTF-8 is named by its index" do
    assert refused(["dog", <<"c", 0xE4, "t">>]) ==
             "the label at index 1 is no valid UTF-8: <<99, 228, 116>>"

    # A surrogate, and a sequence that is longer than it need be.
    assert refused([<<0xED, 0xA0, 0x80>>]) =~ "index 0 is no valid UTF-8"
    assert refused([<<0xC0, 0x80>>]) =~ "index 0 is no valid UTF-8"
  end

  test "limits are named" do
    assert refused(["dog", String.duplicate("ä", 2_049)]) ==
             "the label at index 1 has 4098 bytes, more than :max_label_bytes, which is 4096"

    assert refused(List.duplicate("dog", 10_001)) ==
             "there are more labels than :max_labels, which is 10000"

    assert refused(["a", "b", "c"], max_labels: 2) ==
             "there are more labels than :max_labels, which is 2"
  end

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
      assert log =~ ~s("dog cat dog cat)
      assert log =~ ~s("other dog cat)
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

    assert classifier.labels == labels
    dim = Embeddings.info!().dim
    rows = for <<row::binary-size(dim)-unit(32) <- classifier.texts>>, do: floats(row)

    assert [cat, _dog, cat] = rows
    for row <- rows, do: assert_in_delta(Enum.sum(Enum.map(row, &(&1 * &1))), 1.0, 1.0e-5)
  end

  defp build(labels) do
    {:ok, {texts, truncated}} =
      labels |> Classifier.prompts(Options.classify!([])) |> Embeddings.texts()

    Classifier.new(labels, Embeddings.info!(), texts, truncated)
  end

  defp floats(binary), do: for(<<float::float-32-native <- binary>>, do: float)
end
