defmodule Image.ZeroShot.Test.MarkdownTest do
  # The README's test proves nothing if its reader does not.
  use ExUnit.Case, async: true

  alias Image.ZeroShot.Test.Markdown

  defp kept?(value, promise) do
    Markdown.check!({:ok, value}, promise, "here")
    true
  rescue
    ExUnit.AssertionError -> false
  end

  test "blocks are found by their language, with their line" do
    text = "a\n\n```elixir\n1 + 1\n```\n\n```sh\nls\n```\n```elixir\n2\n3\n```\n"
    assert Markdown.blocks(text, "elixir") == [{3, "1 + 1\n"}, {10, "2\n3\n"}]
    assert Markdown.blocks(text, "sh") == [{7, "ls\n"}]
  end

  test "a script is cut into steps by its promises" do
    code = "a = 1\n# a comment\na + 1 #=> 2\nb =\n  [a]\n# => [\n#      1\n#    ]\n\nb ++ b\n"

    assert Markdown.script(code) == [
             {"a = 1\n# a comment\na + 1", "2"},
             {"b =\n  [a]", "[\n      1\n    ]"},
             {"b ++ b", nil}
           ]
  end

  test "a session is cut into steps by its prompts" do
    code = "iex> a = 1\niex> a +\n...> 1\n2\niex> [a,\n...> 2]\n[1,\n 2]\n"
    assert Markdown.session(code) == [{"a = 1", nil}, {"a +\n1", "2"}, {"[a,\n2]", "[1,\n 2]"}]
  end

  test "promises are kept to the digit shown" do
    assert kept?(0.9712, "0.97")
    assert kept?(0.9691, "0.97")
    refute kept?(0.95, "0.97")
    refute kept?(0.5, "0.97")
    assert kept?(1.2e-5, "0.00")
    assert kept?([%{label: "a", score: 0.977}], "[%{label: \"a\", score: 0.98}]")
    assert kept?([%{label: "a"}, %{label: "b"}], "[\n  %{label: \"a\"},\n  …\n]")
    refute kept?([%{label: "b"}], "[%{label: \"a\"}]")
    assert kept?(:ok, ":ok")
    refute kept?(:okay, ":ok")
  end

  test "errors are promised too" do
    error = %ArgumentError{message: "no"}
    assert Markdown.check!({:raised, error}, "** (ArgumentError) no", "here")

    for promise <- [nil, "** (ArgumentError) yes", "1"] do
      assert_raise ExUnit.AssertionError, fn ->
        Markdown.check!({:raised, error}, promise, "here")
      end
    end
  end
end
