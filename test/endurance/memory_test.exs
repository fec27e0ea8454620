defmodule Image.ZeroShot.Endurance.MemoryTest do
  use ExUnit.Case, async: false

  import Image.ZeroShot.Test.Figures

  alias Image.ZeroShot.Test.{FreshVM, Memory}

  @moduletag timeout: 1_200_000
  @moduletag skip: not match?({:unix, :linux}, :os.type())

  # In kilobytes. In a short run what the allocators keep is most of it: 40 MB on a busy machine.
  @most_growth 50 * 1024
  @most_in_short 100 * 1024

  defp requests(warm_up, requests) do
    arguments = [embedded(), warm_up, requests]
    figures = FreshVM.call({Memory, :requests, arguments}, [], 1_000_000)
    report("#{requests} requests: #{mb(grown(figures))} more, threads #{threads(figures)}")
    figures
  end

  defp grown(figures), do: figures.after.resident - figures.before.resident
  defp threads(figures), do: "#{figures.before.threads}, then #{figures.after.threads}"
  defp flat?(figures, most), do: grown(figures) <= most

  # The first loads set libtorch up.
  defp drift(cycles) do
    sizes = {Memory, :loads, [embedded(), cycles]} |> FreshVM.call([], 600_000) |> Enum.drop(3)
    drift = List.last(sizes) / hd(sizes) - 1
    report("#{cycles} loads and unloads: #{Float.round(100 * drift, 1)} % more")
    drift
  end

  test "neither memory nor threads grow with requests" do
    figures = requests(100, 300)
    assert flat?(figures, @most_in_short)
    assert figures.after.threads == figures.before.threads
  end

  test "a leak is found" do
    refute flat?(FreshVM.call({Memory, :leaking, [embedded(), 50, 400]}), @most_in_short)
  end

  # One model that stays is 5 %, so those of 16 loads would be four fifths.
  test "loads and unloads leave nothing behind", do: assert(drift(20) <= 0.15)

  @tag :endurance
  test "neither memory nor threads grow with 10,000 requests" do
    figures = requests(1_000, 10_000)
    assert flat?(figures, @most_growth)
    assert figures.after.threads == figures.before.threads
  end

  @tag :endurance
  test "100 loads and unloads leave nothing behind", do: assert(drift(100) <= 0.05)

  @tag :endurance
  test "the memory of a model comes back when it is unloaded" do
    figures = FreshVM.call({Memory, :unload, [model(), 5_000]}, [], 120_000)
    [returned, weights] = for bytes <- [figures.returned, figures.weights], do: mb(bytes / 1024)
    report("unload: #{returned} back of #{weights} of weights, in #{ms(figures.time)} ms")
    assert figures.returned / figures.weights >= 0.9
  end
end
