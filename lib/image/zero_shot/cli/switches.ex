defmodule Image.ZeroShot.CLI.Switches do
  @moduledoc false

  # Splits a command line into flags and words, and says what is wrong with a flag.

  alias Image.ZeroShot.Call.Typo

  @typedoc "Flags with their types, as `OptionParser` takes them."
  @type switches :: [{atom(), atom()}, ...]

  @doc """
  Returns the flags and the words. `task` documents the flags; `hidden` ones are known, and not suggested.
  """
  @spec parse([String.t()], switches(), String.t(), switches() | []) ::
          {:ok, keyword(), [String.t()]} | {:error, String.t()}
  def parse(argv, switches, task, hidden \\ []) do
    case OptionParser.parse(argv, strict: switches ++ hidden) do
      {flags, words, []} -> {:ok, flags, words}
      {_flags, _words, [fault | _]} -> {:error, fault(fault, switches, task, hidden)}
    end
  end

  @doc """
  Lists the flags, for an error message.
  """
  @spec usage(switches(), String.t()) :: String.t()
  def usage(switches, task) do
    names = for {key, _type} <- switches, do: "--" <> name(key)
    "the flags are #{Enum.join(names, ", ")}; see mix help #{task}"
  end

  defp fault({flag, value}, switches, task, hidden) do
    case Enum.find(switches ++ hidden, &known?(&1, flag)) do
      nil -> "unknown flag #{flag}; #{meant(flag, switches, task)}"
      {_key, _type} when value == nil -> "expected a value after #{flag}"
      {_key, :boolean} -> "expected no value for #{flag}, got: #{value}"
      {_key, _number} -> "expected #{flag} to be a number, got: #{value}"
    end
  end

  defp known?({key, :boolean}, flag), do: flag in ["--" <> name(key), "--no-" <> name(key)]
  defp known?({key, _type}, flag), do: flag == "--" <> name(key)

  defp meant(flag, switches, task) do
    mistyped = flag |> String.trim_leading("-") |> String.replace("_", "-")

    case Typo.meant(mistyped, for({key, _type} <- switches, do: name(key))) do
      nil -> usage(switches, task)
      name -> "did you mean --#{name}? mix help #{task} lists all flags"
    end
  end

  defp name(key), do: key |> to_string() |> String.replace("_", "-")
end
