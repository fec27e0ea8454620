defmodule Image.ZeroShot.Endurance.BoundsTest do
  use ExUnit.Case, async: false

  import Image.ZeroShot.Test.Figures

  alias Image.ZeroShot.Test.{Bounds, FreshVM}

  @moduletag timeout: 900_000

  defp storm(model, count) do
    figures = FreshVM.call({Bounds, :storm, [model, count]}, [], 120_000)
    report("#{count} callers at once: #{inspect(figures.answers)}")
    if figures.refusals != [], do: report("  refused after #{times(figures.refusals)}")
    assert figures.answers |> Map.values() |> Enum.sum() == count
    assert Enum.all?(Map.keys(figures.answers), &(&1 in [:ok, :overloaded, :timeout]))
    report("  none is counted any more after #{figures.empty} ms")
    figures
  end

  defp kills(model, count) do
    figures = FreshVM.call({Bounds, :kills, [model, count, 16]}, [], 600_000)
    report("#{count} callers killed, #{figures.answered} of them answered before")
    report("  none is counted any more after #{figures.empty} ms")
    assert figures.after == :ok
    assert figures.mailbox == 0
    assert figures.answered in 0..(count - 1)
    figures
  end

  test "each of many callers at once gets one answer", do: storm(embedded(), 200)

  test "callers that are killed give their places back", do: kills(embedded(), 300)

  @tag :endurance
  test "1,000 callers at once get 1,000 answers, and a refusal is quick" do
    figures = storm(model(), 1_000)
    assert quantile(figures.refusals, 0.99) < 5_000
    assert figures.empty <= 5_000
  end

  @tag :endurance
  test "10,000 callers that are killed give their places back within seconds" do
    assert kills(model(), 10_000).empty <= 5_000
  end
end
