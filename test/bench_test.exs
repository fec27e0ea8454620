Code.require_file("bench/chart.exs", File.cwd!())

defmodule Image.ZeroShot.BenchTest do
  # What measures this library: its pictures, and that it calls what there is.
  use ExUnit.Case, async: true

  alias Bench.Chart

  test "the picture of ratios is drawn from the results that README quotes" do
    readme = File.read!("bench/README.md")

    assert [_, picture, file] =
             Regex.run(~r/!\[[^\]]{40,}\]\((\S+)\)\s+drawn from `(\S+)`/i, readme)

    results = File.read!(file)
    # Not by ==, which would print both.
    assert Path.join("bench", picture) |> File.read!() |> Kernel.==(Chart.peers(results))

    rows =
      Regex.scan(~r/^(\| \S.* (?:labels|before) \| )(.*) \| (.*) \| (.*) \| (.*) \|$/m, results)

    assert length(rows) == 6

    for [_, task, times | ratios] <- rows do
      assert readme =~ task <> times
      assert readme =~ task <> Enum.join(ratios, " | ")
    end
  end

  test "no text in a picture overlaps another or leaves it, whatever the figures" do
    words =
      "pictures of a size that nobody has, and labels without number, again and again and again"

    rows =
      for ratios <- [[0.01, 1.0, 7.25], [0.99, nil, 120.5]],
          do: {words, Enum.zip(["f32", "auto", "int8"], ratios)}

    legend = for name <- ["f32", "auto", "int8"], do: {name, "#{name}, beside a & <b>"}
    check(Chart.ratios("Ratios & others", ["Somewhere", "sometime"], legend, rows))
    lines = for i <- 1..6, do: {"line #{i}", [{10, 0.5 + i / 100}, {1_000_000, 3.0 + i / 100}]}
    check(Chart.lines("Lines", "entries", "ms", lines, ["line 2"]))
    for picture <- ["bench/ratios.svg", "bench/search.svg"], do: check(File.read!(picture))
  end

  test "results without peers, and of some precisions, can be drawn" do
    svg =
      Chart.peers(
        "# today\n\n| task | ours auto | ratio auto |\n| --- | --- | --- |\n| a | 1.0 |  |\n"
      )

    assert svg =~ ">a</text>"
    check(svg)
  end

  for script <- Path.wildcard("bench/*.exs") do
    @script script

    test "#{script} calls functions that exist" do
      {:ok, code} = @script |> File.read!() |> Code.string_to_quoted()
      aliases = aliases(code)
      {_, calls} = Macro.prewalk(code, [], &call/2)

      for {[first | rest], name, arity} <- calls do
        module = Module.concat(List.wrap(aliases[first] || [first]) ++ rest)

        if match?(["Image", "ZeroShot" | _], Module.split(module)) do
          Code.ensure_loaded!(module)
          # A pipe brings the first argument.
          assert Enum.any?([arity, arity + 1], &function_exported?(module, name, &1)),
                 "#{@script} calls #{inspect(module)}.#{name}/#{arity}"
        end
      end
    end
  end

  # `&Module.name/2`, whose insides are no call.
  defp call({:/, _, [{{:., _, [{:__aliases__, _, names}, name]}, _, []}, arity]}, calls)
       when is_integer(arity),
       do: {arity, [{names, name, arity} | calls]}

  defp call({{:., _, [{:__aliases__, _, names}, name]}, _, arguments} = code, calls)
       when name != :{},
       do: {code, [{names, name, length(arguments)} | calls]}

  defp call(code, calls), do: {code, calls}

  defp aliases(code) do
    {_, found} =
      Macro.prewalk(code, %{}, fn
        {:alias, _, [{{:., _, [{:__aliases__, _, names}, :{}]}, _, children}]} = code, found ->
          children =
            for {:__aliases__, _, child} <- children, do: {List.last(child), names ++ child}

          {code, Map.merge(found, Map.new(children))}

        {:alias, _, [{:__aliases__, _, names}]} = code, found ->
          {code, Map.put(found, List.last(names), names)}

        code, found ->
          {code, found}
      end)

    found
  end

  # Characters are taken for 8 of 13 pixels wide.
  defp check(svg) do
    assert svg =~ ~r{<title id="t">\S.*</title>}
    refute svg =~ ~r/<script|href|@import|url\(http/
    refute svg =~ ~r/&(?!amp;|lt;|gt;)/
    [_, width, height] = Regex.run(~r/viewBox="0 0 (\d+) (\d+)"/, svg)
    {width, height} = {String.to_integer(width), String.to_integer(height)}

    boxes =
      for [_, class, x, y, text] <-
            Regex.scan(~r{<text(?: class="([^"]*)")? x="([\d.-]+)" y="([\d.-]+)">([^<]*)<}, svg) do
        {x, y} = {String.to_float(x), String.to_float(y)}
        wide = 8 * String.length(String.replace(text, ~r/&\w+;/, "&"))

        left =
          cond do
            class =~ "mid" -> x - wide / 2
            class =~ "end" -> x - wide
            true -> x
          end

        assert left >= 0 and left + wide <= width and y <= height - 4, text
        {left, left + wide, y - 11, y + 3, text}
      end

    for {a, i} <- Enum.with_index(boxes), b <- Enum.drop(boxes, i + 1), do: refute_overlap(a, b)
  end

  defp refute_overlap({l1, r1, t1, b1, text1}, {l2, r2, t2, b2, text2}) do
    refute l1 < r2 and l2 < r1 and t1 < b2 and t2 < b1, "#{text1} overlaps #{text2}"
  end
end
