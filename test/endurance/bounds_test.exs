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

  # `most` is the part of the calls that were let in which may be late. Without the estimate nearly
  # all would be; with it only those are that the machine itself keeps waiting.
  defp offered(model, count, seconds, timeout, small, most) do
    arguments = [model, count, seconds, timeout, small]
    answers = FreshVM.call({Bounds, :clients, arguments}, [], 600_000)
    report("#{count} clients for #{seconds} s, #{timeout} ms each: #{inspect(answers)}")
    assert Enum.all?(Map.keys(answers), &(&1 in [:ok, :overloaded, :timeout]))
    assert answers[:ok] > 0
    late = Map.get(answers, :timeout, 0)
    assert late <= max(2, most * (late + answers.ok))
  end

  test "more pictures than can be decoded are refused, and most of the others are in time" do
    offered(embedded(), 100, 6, 3_000, 0.0, 0.25)
    offered(embedded(), 100, 6, 3_000, 0.5, 0.25)
  end

  test "callers with long lists of labels leave room for small calls" do
    figures = FreshVM.call({Bounds, :long_lists, [embedded(), 4, 10_000, 5]}, [], 120_000)
    report("a small call beside 4 x 10,000 labels: batches #{inspect(figures.batches)}")
    assert figures.busy == 4

    # The one at work, a part of a list, its own, and one more for the moment of asking; the median,
    # since a busy machine may keep who asks waiting for longer. The lists need hundreds.
    assert figures.batches |> Enum.sort() |> quantile(0.5) <= 6
  end

  @tag :endurance
  test "of the calls of 150 clients that are let in at most a hundredth is late" do
    offered(model(), 150, 60, 5_000, 0.0, 0.01)
    offered(model(), 300, 60, 2_000, 0.5, 0.01)
  end

  @tag :endurance
  test "1,000 callers at once get 1,000 answers, and a refusal is quick" do
    figures = storm(model(), 1_000)

    # Of those who find the serving full. Some of the others hear later that the model is too slow for
    # them, as soon as that is known, and still in time.
    at_once = Enum.take(figures.refusals, 1_000 - 512)
    report("  the first #{length(at_once)} of them after #{times(at_once)}")
    assert quantile(at_once, 0.99) < 5_000
    assert Map.get(figures.answers, :timeout, 0) <= 0.01 * 512
    assert figures.empty <= 5_000
  end

  @tag :endurance
  test "10,000 callers that are killed give their places back within seconds" do
    assert kills(model(), 10_000).empty <= 5_000
  end
end
