defmodule Bench.Chart do
  @moduledoc false

  # The pictures of bench/README.md. They have a background of their own, for light and dark pages. Series differ
  # by shape as well as by colour, and the colours are those of Okabe and Ito, which everybody can tell apart.

  @colours ~w(#0072b2 #d55e00 #009e73 #7a4a86 #5b6477 #8a6d00)
  @shapes ~w(circle square triangle diamond)a

  @doc """
  The ratios of a file in `bench/results`: of the table that `bench/peers.exs` prints.
  """
  def peers(results) do
    ["# " <> machine | _] = String.split(results, "\n")
    [header, _rule | rows] = Enum.map(table(results), &cells/1)
    columns = for {"ratio " <> name, at} <- Enum.with_index(header), do: {name, at}

    legend =
      for {name, _} <- columns do
        contenders = Enum.drop_while(header, &(&1 != "ours #{name}")) |> tl()
        others = Enum.take_while(contenders, &(not String.starts_with?(&1, ["ours ", "ratio "])))
        {name, "#{name}, beside #{Enum.join(others, ", ")}"}
      end

    rows = for row <- rows, do: {hd(row), for({name, at} <- columns, do: {name, ratio(row, at)})}

    notes = ["Less is faster. #{machine}"]
    ratios("Time of this library as a share of the fastest peer's", notes, legend, rows)
  end

  defp table(results) do
    results
    |> String.split("\n")
    |> Enum.drop_while(&(not (&1 =~ ~r/^\| task \|.*\| ratio /)))
    |> Enum.take_while(&String.starts_with?(&1, "|"))
  end

  defp cells(row),
    do: row |> String.split("|") |> Enum.map(&String.trim/1) |> Enum.slice(1..-2//1)

  # Without peers there is none.
  defp ratio(row, at) do
    case Float.parse(Enum.at(row, at)) do
      {ratio, ""} -> ratio
      :error -> nil
    end
  end

  @doc """
  Ratios and a line at 1, of rows `{task, [{series, ratio}]}`; a ratio may be missing. `notes` say of what and
  where, and `legend` has each series with a line about it.
  """
  def ratios(title, notes, legend, rows) do
    top = 90 + 20 * (length(notes) + length(legend))
    {rows, bottom} = Enum.map_reduce(rows, top, &place/2)
    {scale, ticks} = scale(for {_, values, _} <- rows, {_, ratio} <- values, ratio, do: ratio)

    notes = for {note, i} <- Enum.with_index(notes), do: text(20, 54 + 20 * i, note, "note")
    keys = for {{_, line}, i} <- Enum.with_index(legend, length(notes)), do: {line, 50 + 20 * i}
    keys = for {{line, y}, i} <- Enum.with_index(keys), do: key(28, y, i, line)

    grid =
      for ratio <- ticks do
        x = scale.(ratio)
        rule(x, top - 8, x, bottom - 8, "grid") <> text(x, bottom + 8, shown(ratio), "note mid")
      end

    one = [rule(scale.(1), top - 12, scale.(1), bottom - 8, "one")]
    one = [text(scale.(1), top - 18, "as fast", "note mid") | one]
    names = Enum.map(legend, &elem(&1, 0))
    body = for row <- rows, do: row(row, scale, names)
    document({860, bottom + 28}, title, [notes, keys, grid, one, body])
  end

  # A task with its lines of text, and where it begins.
  defp place({task, values}, y) do
    lines = wrapped(task, 46)
    {{lines, values, y}, y + 18 * max(length(values), length(lines)) + 16}
  end

  # From 0 to what there is, in at most six steps.
  defp scale(ratios) do
    most = Enum.max([1.1 | ratios])
    step = Enum.find([0.25, 0.5, 1, 2, 5, 10, 20, 50], 100, &(most / &1 <= 6))
    steps = ceil(most / step)
    {&(350 + 420 * &1 / (steps * step)), for(i <- 0..steps, do: i * step)}
  end

  defp row({lines, values, y}, scale, names) do
    task = for {line, i} <- Enum.with_index(lines), do: text(20, y + 12 + 18 * i, line, "")

    marks =
      for {{name, ratio}, i} <- Enum.with_index(values), ratio do
        {at, number} = {y + 8 + 18 * i, Enum.find_index(names, &(&1 == name))}
        stem = "M#{px(scale.(0))} #{at}H#{px(scale.(ratio))}"

        ~s(<path d="#{stem}" stroke="#{colour(number)}" stroke-width="2"/>) <>
          mark(scale.(ratio), at, number) <> text(840, at + 4, decimals(ratio), "end")
      end

    [task, marks]
  end

  @doc """
  Lines of `{name, [{x, y}]}` on two logarithmic axes. Those in `dashed` are not ours.
  """
  def lines(title, axis, unit, series, dashed) do
    points = for {_, points} <- series, point <- points, do: point
    {left, right} = points |> Enum.map(&elem(&1, 0)) |> Enum.min_max()
    {low, high} = points |> Enum.map(&elem(&1, 1)) |> Enum.min_max()
    {low, high} = {floor(:math.log10(low)), ceil(:math.log10(high))}
    x = &(90 + 620 * (:math.log10(&1) - :math.log10(left)) / :math.log10(right / left))
    y = &(380 - 320 * (:math.log10(&1) - low) / max(high - low, 1))

    rules =
      for power <- low..high do
        at = y.(:math.pow(10, power))
        rule(90, at, 710, at, "grid") <> text(82, at + 4, "#{power_of_ten(power)} #{unit}", "end")
      end

    ticks = for {at, _} <- hd(series) |> elem(1), do: text(x.(at), 402, grouped(at), "mid")
    ends = for {name, points} <- series, do: {y.(elem(List.last(points), 1)), name}
    names = apart(ends)

    curves =
      for {{name, points}, i} <- Enum.with_index(series) do
        at = Enum.map_join(points, " ", fn {a, b} -> "#{px(x.(a))},#{px(y.(b))}" end)
        dash = if name in dashed, do: ~s( stroke-dasharray="6 4"), else: ""

        [
          ~s(<polyline points="#{at}" fill="none" stroke="#{colour(i)}" stroke-width="2"#{dash}/>),
          for({a, b} <- points, do: mark(x.(a), y.(b), i)),
          key(734, names[name], i, name)
        ]
      end

    document({860, 440}, title, [rules, ticks, curves, text(400, 426, axis, "note mid")])
  end

  defp document({width, height}, title, body) do
    """
    <svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 #{width} #{height}" width="#{width}" height="#{height}" role="img" aria-labelledby="t">
    <title id="t">#{escaped(title)}</title>
    <style>
    text { font: 13px system-ui, sans-serif; fill: #1f2430; }
    .head { font-size: 15px; font-weight: 600; }
    .note { fill: #4a5263; }
    .mid { text-anchor: middle; }
    .end { text-anchor: end; }
    .grid { stroke: #d8dde6; }
    .one { stroke: #1f2430; stroke-width: 1.6; }
    </style>
    <rect x="0.5" y="0.5" width="#{width - 1}" height="#{height - 1}" rx="8" fill="#fbfbfd" stroke="#c9cfda"/>
    #{[text(20, 30, title, "head") | body] |> List.flatten() |> Enum.join("\n")}
    </svg>
    """
  end

  defp key(x, y, number, line), do: mark(x, y, number) <> text(x + 14, y + 4, line, "")

  defp mark(x, y, number) do
    {x, y} = {px(x), px(y)}

    path =
      case Enum.at(@shapes, rem(number, length(@shapes))) do
        :circle -> "M#{x - 5} #{y}a5 5 0 1 0 10 0a5 5 0 1 0 -10 0z"
        :square -> "M#{x - 4.5} #{y - 4.5}h9v9h-9z"
        :triangle -> "M#{x} #{y - 6}l6 10.5h-12z"
        :diamond -> "M#{x} #{y - 6}l6 6l-6 6l-6 -6z"
      end

    ~s(<path d="#{path}" fill="#{colour(number)}"/>)
  end

  defp rule(x1, y1, x2, y2, class),
    do: ~s(<path class="#{class}" d="M#{px(x1)} #{px(y1)}L#{px(x2)} #{px(y2)}"/>)

  defp text(x, y, text, ""), do: ~s(<text x="#{px(x)}" y="#{px(y)}">#{escaped(text)}</text>)

  defp text(x, y, text, class),
    do: ~s(<text class="#{class}" x="#{px(x)}" y="#{px(y)}">#{escaped(text)}</text>)

  defp colour(number), do: Enum.at(@colours, rem(number, length(@colours)))
  defp px(number), do: Float.round(number / 1, 1)
  defp decimals(number), do: :erlang.float_to_binary(number / 1, decimals: 2)
  defp shown(number), do: if(number == trunc(number), do: "#{trunc(number)}", else: "#{number}")
  defp power_of_ten(power) when power < 0, do: "#{Float.round(:math.pow(10, power), -power)}"
  defp power_of_ten(power), do: grouped(10 ** power)

  defp grouped(number), do: "#{number}" |> String.replace(~r/(?<=\d)(?=(\d{3})+$)/, ",")

  defp escaped(text) do
    for {character, name} <- [{"&", "&amp;"}, {"<", "&lt;"}, {">", "&gt;"}], reduce: text do
      text -> String.replace(text, character, name)
    end
  end

  # Lines of so many characters at most, if no word is longer.
  defp wrapped(text, most) do
    text
    |> String.split(" ")
    |> Enum.chunk_while(
      [],
      fn word, line ->
        if line != [] and String.length(Enum.join(line ++ [word], " ")) > most,
          do: {:cont, line, [word]},
          else: {:cont, line ++ [word]}
      end,
      &{:cont, &1, []}
    )
    |> Enum.map(&Enum.join(&1, " "))
  end

  # Names of lines that end close to each other, one above the other.
  defp apart(labels) do
    labels
    |> Enum.sort()
    |> Enum.map_reduce(0, fn {at, name}, above ->
      at = max(at, above + 17)
      {{name, at}, at}
    end)
    |> elem(0)
    |> Map.new()
  end
end
