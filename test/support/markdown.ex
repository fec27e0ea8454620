defmodule Image.ZeroShot.Test.Markdown do
  @moduledoc false

  # Code in Markdown, step by step, with what is promised to come of each step.
  #
  # A promise is a line `#=> value` (or `# => value`) after a step, which may go on in comments, or
  # in a session what stands between two prompts. Floats are compared to the digits that are shown,
  # and `…` or `...` stands for whatever there is.

  import ExUnit.Assertions

  @spec blocks(String.t(), String.t()) :: [{line :: pos_integer(), code :: String.t()}]
  def blocks(text, language) do
    for [{from, _}, {at, length}] <-
          Regex.scan(~r/^```#{language}\s*\n(.*?)^```/ms, text, return: :index) do
      line = text |> binary_part(0, from) |> String.split("\n") |> length()
      {line, binary_part(text, at, length)}
    end
  end

  @doc "The steps of a plain script."
  def script(code) do
    {steps, last} = code |> String.split("\n") |> Enum.reduce({[], {[], nil}}, &line/2)
    [last | steps] |> Enum.reverse() |> Enum.map(&step/1) |> Enum.reject(&(&1 == {"", nil}))
  end

  # The step that is being read: its code, and its promise once that has begun.
  defp line(line, {steps, {code, promise}}) do
    cond do
      line =~ ~r/# ?=>/ and promise == nil ->
        [before, value] = String.split(line, ~r/# ?=>/, parts: 2)
        {steps, {[before | code], [value]}}

      promise != nil and line =~ ~r/^\s*#/ and not (line =~ ~r/# ?=>/) ->
        {steps, {code, [String.replace(line, ~r/^\s*#/, "") | promise]}}

      promise != nil ->
        line(line, {[{code, promise} | steps], {[], nil}})

      true ->
        {steps, {[line | code], nil}}
    end
  end

  defp step({code, nil}), do: {join(code), nil}
  defp step({code, promise}), do: {join(code), join(promise)}

  defp join(lines), do: lines |> Enum.reverse() |> Enum.join("\n") |> String.trim()

  @doc "The steps of a session with prompts."
  def session(code) do
    code
    |> String.split(~r/^\s*iex(\(\d+\))?> /m, trim: true)
    |> Enum.reject(&(String.trim(&1) == ""))
    |> Enum.map(fn step ->
      {code, promise} =
        step
        |> String.split("\n")
        |> then(fn [first | rest] -> {[first], rest} end)
        |> continued()

      promise = promise |> Enum.join("\n") |> String.trim()
      {Enum.join(code, "\n"), if(promise != "", do: promise)}
    end)
  end

  defp continued({code, [line | rest]}) do
    case Regex.run(~r/^\s*\.\.\.(?:\(\d+\))?> ?(.*)$/, line) do
      [_, more] -> continued({code ++ [more], rest})
      nil -> {code, [line | rest]}
    end
  end

  defp continued({code, []}), do: {code, []}

  @doc "Compares the outcome of a step with what was promised."
  def check!({:ok, _value}, nil, _place), do: :ok

  def check!({:raised, error}, promise, place) do
    shown = "** (#{inspect(error.__struct__)}) #{Exception.message(error)}"

    assert promise != nil and matches?(shown, promise),
           "#{place} promises #{inspect(promise)}, and raised #{shown}"
  end

  def check!({:ok, value}, promise, place) do
    shown = inspect(value, limit: :infinity, printable_limit: :infinity)

    assert matches?(shown, promise),
           "#{place} promises #{String.trim(promise)}, and gave #{shown}"
  end

  defp matches?(shown, promise) do
    plain =
      Regex.replace(~r/\d+\.\d+e-?\d+/, shown, fn float ->
        :erlang.float_to_binary(String.to_float(float), decimals: 12)
      end)

    Regex.match?(pattern(promise), squeeze(plain))
  end

  # The promise as a pattern: an ellipsis is anything, a float any that rounds to it.
  defp pattern(promise) do
    parts =
      ~r/…|\.\.\.|-?\d+\.\d+/
      |> Regex.split(squeeze(promise), include_captures: true)
      |> Enum.map_join(fn
        ellipsis when ellipsis in ["…", "..."] -> ".*"
        part -> if part =~ ~r/^-?\d+\.\d+$/, do: float(part), else: Regex.escape(part)
      end)

    Regex.compile!("^" <> parts <> "$", "su")
  end

  defp float(text) do
    [_, digits] = String.split(text, ".")
    {value, ""} = Float.parse(text)
    places = String.length(digits)
    step = :math.pow(10, -places)

    # The digits shown are either rounded or cut: one step to each side.
    near = for n <- -1..1, do: :erlang.float_to_binary(value + n * step, decimals: places)
    "(?:" <> Enum.map_join(near, "|", &Regex.escape/1) <> ")\\d*"
  end

  defp squeeze(text), do: text |> String.replace(~r/\s+/, "") |> String.trim()
end
