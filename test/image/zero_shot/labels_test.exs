defmodule Image.ZeroShot.LabelsTest do
  use ExUnit.Case, async: true

  alias Image.ZeroShot.{Error, Labels, Options}

  defp refused(labels, opts \\ []) do
    assert {:error, %Error{} = error} = Labels.new(labels, Options.classify!(opts))
    assert error.reason == :invalid_label
    error.message
  end

  test "labels are strings, as many and as long as the limits allow" do
    opts = Options.classify!(max_labels: 3, max_label_bytes: 4)

    for labels <- [["a"], ["a", "a", "b"], [""], ["ünü"], ["a\0b"], ["🐶"]] do
      if Enum.all?(labels, &(byte_size(&1) <= 4)) do
        assert {:ok, %Labels{terms: ^labels}} = Labels.new(labels, opts)
      end
    end

    assert {:ok, _} = Labels.new([String.duplicate("a", 4_096)], Options.classify!([]))
  end

  test "a list without labels, or no list, is refused" do
    assert refused([]) == "expected at least one label, got: []"
    assert refused("dog") == ~s(expected a list of labels, got: "dog")
    assert refused(nil) == "expected a list of labels, got: nil"
    assert refused(%{}) == "expected at least one label, got: []"
    assert refused(["dog" | "cat"]) == ~s(expected a list of labels, got: "cat")
  end

  test "a label that is no string is named by its index" do
    assert refused(["dog", :cat]) == "the label at index 1 is no string: :cat"
    assert refused(%{"dog" => 1}) == ~s(the label at index 0 is no string: {"dog", 1})
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
end
