defmodule Image.ZeroShot.Hub.ProgressTest do
  use ExUnit.Case, async: true

  alias Image.ZeroShot.Hub.Progress

  @total 605_157_884

  defp step(done, total \\ @total), do: %{done: done, total: total}

  defp line(progress, step, now),
    do: progress |> Progress.update(step, now) |> Progress.line(now)

  defp drawn(progress, now, columns),
    do: progress |> Progress.draw(now, columns) |> IO.iodata_to_binary()

  test "a line comes for every ten per cent, with size, speed and the time that is left" do
    {lines, _progress} =
      Enum.map_reduce(0..100, Progress.new(:bytes), fn percent, progress ->
        line(progress, step(div(@total * percent + 99, 100)), percent * 500)
      end)

    lines = Enum.reject(lines, &is_nil/1)
    assert length(lines) == 10
    assert hd(lines) == " 10 %  60.5 MB of 605.2 MB, 12.1 MB/s, 45 s left"
    assert List.last(lines) == "100 %  605.2 MB of 605.2 MB, 12.1 MB/s"
  end

  test "bytes that were there before do not count as speed" do
    progress = Progress.new(:bytes)
    assert {nil, progress} = line(progress, step(50, 1_000), 0)

    assert {" 10 %  100 B of 1.0 kB, 50 B/s, 18 s left", _} =
             line(progress, step(100, 1_000), 1_000)

    assert {" 50 %  500 B of 1.0 kB", _} = line(Progress.new(:bytes), step(500, 1_000), 9)
  end

  test "a leap makes one line, and a step back none" do
    {_, progress} = line(Progress.new(:bytes), step(0, 100), 0)
    assert {" 70 %  79 B of 100 B" <> _, progress} = line(progress, step(79, 100), 1_000)
    assert {nil, progress} = line(progress, step(20, 100), 2_000)
    assert {nil, progress} = line(progress, step(75, 100), 3_000)
    assert {"100 %" <> _, _} = line(progress, step(100, 100), 4_000)
  end

  test "a bar fits in the columns of the terminal, and leaves the last one free" do
    progress = :bytes |> Progress.new() |> Progress.update(step(0), 0)
    half = Progress.update(progress, step(div(@total, 2)), 25_000)
    bar = " 50 % [############............]  302.6 MB of 605.2 MB, 12.1 MB/s, 25 s left"
    assert drawn(half, 25_000, 80) == "\r" <> bar <> "\e[K"
    assert drawn(half, 25_000, 30) == "\r" <> String.slice(bar, 0, 29) <> "\e[K"
    assert drawn(half, 25_000, 0) == "\r" <> String.slice(bar, 0, 19) <> "\e[K"
  end

  test "a bar of pictures tells failures, the speed since the first, and the time that is left" do
    progress = Progress.new(:pictures, 200)
    empty = "[#{String.duplicate(".", 24)}]"
    assert drawn(progress, 0, 100) == "\r  0 % #{empty}  0 of 200\e[K"

    # The model may have to be loaded before the first.
    progress = Progress.update(progress, %{done: 1, failed: 0, total: 200}, 5_000)
    assert drawn(progress, 5_000, 100) == "\r  0 % #{empty}  1 of 200\e[K"
    progress = Progress.update(progress, %{done: 100, failed: 99, total: 200}, 14_900)
    half = String.duplicate("#", 12) <> String.duplicate(".", 12)

    assert drawn(progress, 14_900, 100) ==
             "\r 50 % [#{half}]  100 of 200, 99 failed, 10.0 a second, 10 s left\e[K"
  end

  test "sizes and long times are written in their largest unit" do
    sizes = [{0, "0 B"}, {999, "999 B"}, {1_000, "1.0 kB"}, {999_949, "999.9 kB"}]
    sizes = sizes ++ [{999_950, "1.0 MB"}, {999_949_999, "999.9 MB"}, {1_710_000_000, "1.7 GB"}]
    for {bytes, text} <- sizes, do: assert(Progress.size(bytes) == text)

    {_, progress} = line(Progress.new(:bytes), step(0), 0)
    assert {line, _} = line(progress, step(div(@total, 4)), 2_000_000)
    assert line =~ "100 min left"
    assert {line, _} = line(progress, step(div(@total, 4)), 20_000_000)
    assert line =~ "16 h left"
  end

  test "an empty download is complete" do
    assert {"100 %  0 B of 0 B", _} = line(Progress.new(:bytes), step(0, 0), 5)
  end
end
