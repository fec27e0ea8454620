defmodule Image.ZeroShot.Endurance.LifecycleTest do
  use ExUnit.Case, async: false

  import Image.ZeroShot.Test.Figures

  alias Image.ZeroShot.Test.{FreshVM, Lifecycle}

  @moduletag timeout: 600_000
  @moduletag skip: not match?({:unix, :linux}, :os.type())

  defp first_callers(model, count) do
    figures = FreshVM.call({Lifecycle, :first_callers, [model, count]}, [], 300_000)
    report("#{count} first callers: at most #{mb(figures.peak)}")
    assert figures.answers == %{ok: count}
    figures.peak
  end

  defp kills(model, count) do
    figures = FreshVM.call({Lifecycle, :kills, [model, count, 8]}, [], 500_000)
    more = figures.after.resident - figures.before.resident
    report("killed #{count} times: callers have their error after #{times(figures.waited)}")
    report("  #{mb(figures.before.resident)} before, #{mb(more)} more then")
    assert figures.alive

    assert Enum.all?(Map.keys(figures.answers), &(&1 in [:ok, :serving_down]))
    assert figures.answers.serving_down >= count
    # Half a copy of a large model; of a small one the allocators' own share is as much.
    assert more < max(figures.weights / 1024 / 2, 20_000)
    assert figures.after.threads <= figures.before.threads
    figures
  end

  test "a serving that is killed comes back, and its weights do not stay" do
    kills(embedded(), 5)
  end

  @tag :endurance
  test "50 first callers take the memory of one" do
    one = first_callers(model(), 1)
    assert first_callers(model(), 50) <= 1.1 * one
  end

  @tag :endurance
  test "a serving that is killed 100 times leaves no second copy of its weights" do
    assert List.last(kills(model(), 100).waited) < 1_000_000
  end
end
