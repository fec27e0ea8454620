defmodule Image.ZeroShot.TemplatesTest do
  use ExUnit.Case, async: true

  alias Image.ZeroShot.Call.{Labels, Options, Templates}
  alias Image.ZeroShot.Test.JSON

  @open_clip JSON.read!("test/fixtures/zero-shot-classifier/goldens.json")

  defp prompts(labels, template) do
    {:ok, labels} = Labels.new(labels, Options.classify!(template: template))
    {labels.prompts, labels.counts}
  end

  test "the named lists are open_clip's, word for word and in its order" do
    for {name, count} <- [openai_imagenet: 80, simple_imagenet: 7] do
      {:ok, templates} = Templates.cast(name)
      assert templates == @open_clip["templates"][Atom.to_string(name)]
      assert length(templates) == count
      assert templates == Enum.uniq(templates)
      assert Options.classify!(template: name).template == templates
    end

    assert Enum.sort(Templates.names()) == [:openai_imagenet, :simple_imagenet]
    assert Templates.cast(:other) == :error
  end

  test "a list of templates makes a prompt each of a label, label after label" do
    assert prompts(["cat", "dog"], ["a {label}", nil, "{label} or {label}"]) ==
             {["a cat", "cat", "cat or cat", "a dog", "dog", "dog or dog"], [3, 3]}

    assert {[_ | _], [80, 80]} = prompts(["cat", "dog"], :openai_imagenet)
    assert {[_ | _], [7]} = prompts(["cat"], :simple_imagenet)
  end

  test "placeholders in a label are not replaced" do
    assert prompts(["{label}", "\\0 &"], ["<{label}>", "{label}{label}"]) ==
             {["<{label}>", "{label}{label}", "<\\0 &>", "\\0 &\\0 &"], [2, 2]}
  end

  test "labels with prompts of their own ignore templates" do
    assert prompts([{1, "one"}, "two", {3, ["{label}", "b"]}], :simple_imagenet)
           |> elem(1) == [1, 7, 2]

    assert {["one", "{label}"], [2]} = prompts(%{a: ["one", "{label}"]}, "x {label}")
  end

  test "a wrong template is an error that lists what is allowed" do
    expected =
      "expected :template to be nil, a string that contains {label} such as " <>
        ~s("a photo of {label}", a list of those or one of ) <>
        ":openai_imagenet, :simple_imagenet, got: "

    for wrong <- [:imagenet, "a photo", [], ["{label}", "a photo"], ["{label}" | "{label}"], 1] do
      error = assert_raise ArgumentError, fn -> Options.classify!(template: wrong) end
      assert error.message == expected <> inspect(wrong)
    end

    # True, false and nil are atoms, of which one is a template.
    assert Options.classify!(template: nil).template == [nil]
    for wrong <- [true, false], do: assert_raise(ArgumentError, fn -> options(wrong) end)
  end

  defp options(template), do: Options.classify!(template: template)
end
