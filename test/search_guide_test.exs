defmodule Image.ZeroShot.SearchGuideTest do
  # The guide's modules need Ecto, Oban and Phoenix, which are not here. What can be checked without them.
  use ExUnit.Case, async: true

  alias Image.ZeroShot.Error
  alias Image.ZeroShot.Test.Markdown

  @guide "guides/search.md"
  @outcome MyApp.ClipOutcome
  @compile {:no_warn_undefined, @outcome}

  defp blocks, do: @guide |> File.read!() |> Markdown.blocks("elixir")

  test "every block of Elixir parses, and defines the module that its file is named after" do
    files =
      for {line, code} <- blocks(), [_, path] <- [Regex.run(~r{\A# (lib/\S+)}, code)] do
        assert {:ok, _} = Code.string_to_quoted(code, file: @guide, line: line)
        name = path |> Path.basename(".ex") |> Macro.camelize()
        assert code =~ ~r/MyApp(Web)?\.#{name}\b/, "#{@guide}:#{line} has no #{name}"
        path
      end

    assert files != [] and files == Enum.uniq(files)
  end

  test "every reason has one outcome, and all lists name reasons only" do
    {_line, code} =
      Enum.find(blocks(), fn {_line, code} -> code =~ "defmodule #{inspect(@outcome)}" end)

    # Twice the same reason is a clause that never matches, which the compiler warns of.
    warnings = ExUnit.CaptureIO.capture_io(:stderr, fn -> Code.compile_string(code, @guide) end)
    assert warnings == ""

    outcomes =
      for reason <- reasons(), do: {reason, @outcome.of(%Error{reason: reason, message: ""})}

    for {reason, outcome} <- outcomes do
      case outcome do
        {:snooze, seconds} -> assert seconds in 1..300
        {:cancel, %Error{reason: ^reason}} -> :ok
        {:error, %Error{reason: ^reason}} -> :ok
      end
    end

    assert {:snooze, _} = outcomes[:overloaded]
    assert {:cancel, _} = outcomes[:invalid_image]
    assert {:error, _} = outcomes[:node_down]

    lists = for [name] <- Regex.scan(~r/(?<=^    )(?::\w+|\w+:)(?=,?$| \d)/m, code), do: name
    named = for name <- lists, do: name |> String.trim(":") |> String.to_existing_atom()
    assert Enum.sort(named) == Enum.sort(reasons())
  after
    :code.purge(@outcome)
    :code.delete(@outcome)
  end

  defp reasons do
    {:ok, types} = Code.Typespec.fetch_types(Error)

    for {:type, {name, {:type, _, :union, members}, []}} <- types,
        name in [:reason, :hub_reason],
        {:atom, _, reason} <- members,
        uniq: true,
        do: reason
  end
end
