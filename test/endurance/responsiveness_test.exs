defmodule Image.ZeroShot.Endurance.ResponsivenessTest do
  use ExUnit.Case, async: false

  import Image.ZeroShot.Test.Figures

  alias Image.ZeroShot.Test.{FreshVM, Responsiveness}

  @moduletag timeout: 300_000

  # In milliseconds, at the 99th percentile: how late a timer may be, and how long the rest may take.
  @bounds [timer: 10, file: 20, dirty: 20]

  defp under_load(flags) do
    quiet = FreshVM.call({Responsiveness, :quiet, [3]}, flags)
    for {name, _bound} <- @bounds, do: report("#{name} alone: #{times(quiet[name])}")
    busy = FreshVM.call({Responsiveness, :under_load, [model(), 300, 20]}, flags, 200_000)
    report("300 callers #{inspect(flags)}: #{inspect(busy.answers)}")
    for {name, _bound} <- @bounds, do: report("#{name} beside them: #{times(busy[name])}")

    for {name, bound} <- @bounds,
        do: assert(quantile(busy[name], 0.99) <= 1_000 * bound, "#{name} is late")
  end

  # Their order, and no clock, tells that nothing waited for them: with one dirty scheduler of each
  # kind, requests that are kept waiting by others would keep the rest waiting too.
  test "dirty jobs are done while requests wait" do
    figures =
      FreshVM.call({Responsiveness, :overtake, [embedded(), 64]}, ["+SDcpu", "1:1", "+SDio", "1"])

    assert figures.done_before_the_last == [:file, :dirty, :score]
    assert figures.answers == %{ok: 64}
  end

  @tag :endurance
  test "the rest of a VM goes on under full load", do: under_load([])

  @tag :endurance
  test "the same with one dirty CPU scheduler", do: under_load(["+SDcpu", "1:1"])

  @tag :endurance
  test "no native function keeps a scheduler for a millisecond" do
    for {name, times} <- FreshVM.call({Responsiveness, :native_calls, [embedded(), 5_000]}) do
      report("#{name}: #{times(times)}")
      # Beyond it the system has taken the core away.
      assert quantile(times, 0.999) < 1_000
    end
  end
end
