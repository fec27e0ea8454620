defmodule Image.ZeroShot.Hub.ProgressTest do
  use ExUnit.Case, async: true

  alias Image.ZeroShot.Hub.Progress

  @total 605_157_884

  defp step(done, total \\ @total), do: %{done: done, total: total}

  test "a line comes for every ten per cent, with size, speed and the time that is left" do
    {lines, _progress} =
      Enum.map_reduce(0..100, Progress.new(0), fn percent, progress ->
        Progress.line(progress, step(div(@total * percent + 99, 100)), percent * 500)
      end)

    lines = Enum.reject(lines, &is_nil/1)
    assert length(lines) == 10
    assert hd(lines) == " 10 %  60.5 MB of 605.2 MB, 12.1 MB/s, 45 s left"
    assert List.last(lines) == "100 %  605.2 MB of 605.2 MB, 12.1 MB/s"
  end

  test "what was there before is no speed, and goes unmentioned until something comes" do
    progress = Progress.new(0)
    assert {nil, progress} = Progress.line(progress, step(50, 1_000), 0)

    assert {" 10 %  100 B of 1.0 kB, 50 B/s, 18 s left", _} =
             Progress.line(progress, step(100, 1_000), 1_000)

    assert {" 50 %  500 B of 1.0 kB", _} = Progress.line(Progress.new(0), step(500, 1_000), 9)
  end

  test "a step that leaps tells where it has come to, and one that falls back nothing" do
    {_, progress} = Progress.line(Progress.new(0), step(0, 100), 0)
    assert {" 70 %  79 B of 100 B" <> _, progress} = Progress.line(progress, step(79, 100), 1_000)
    assert {nil, progress} = Progress.line(progress, step(20, 100), 2_000)
    assert {nil, progress} = Progress.line(progress, step(75, 100), 3_000)
    assert {"100 %" <> _, _} = Progress.line(progress, step(100, 100), 4_000)
  end

  test "a bar fits in the columns there are" do
    {_, progress} = Progress.bar(Progress.new(0), step(0), 0, 79)
    {bar, _} = Progress.bar(progress, step(div(@total, 2)), 25_000, 79)
    assert bar == " 50 % [############............]  302.6 MB of 605.2 MB, 12.1 MB/s, 25 s left"
    assert {" 50 % [###", _} = Progress.bar(progress, step(div(@total, 2)), 25_000, 10)
  end

  test "sizes and long times" do
    sizes = [{0, "0 B"}, {999, "999 B"}, {1_000, "1.0 kB"}, {999_949, "999.9 kB"}]
    sizes = sizes ++ [{999_950, "1.0 MB"}, {999_949_999, "999.9 MB"}, {1_710_000_000, "1.7 GB"}]
    for {bytes, text} <- sizes, do: assert(Progress.size(bytes) == text)

    {_, progress} = Progress.line(Progress.new(0), step(0), 0)
    assert {line, _} = Progress.line(progress, step(div(@total, 4)), 2_000_000)
    assert line =~ "100 min left"
    assert {line, _} = Progress.line(progress, step(div(@total, 4)), 20_000_000)
    assert line =~ "16 h left"
  end

  test "nothing to download is all of it" do
    assert {"100 %  0 B of 0 B", _} = Progress.line(Progress.new(0), step(0, 0), 5)
  end
end
