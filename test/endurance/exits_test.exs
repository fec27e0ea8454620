defmodule Image.ZeroShot.Endurance.ExitsTest do
  use ExUnit.Case, async: false

  import Image.ZeroShot.Test.Figures

  alias Image.ZeroShot.Test.Exits

  @moduletag :tmp_dir
  @moduletag timeout: 1_800_000
  @moduletag skip: not match?({:unix, :linux}, :os.type())

  # Of each way, with the stages in turn.
  defp rounds(count, cache) do
    for i <- 1..count, {{way, status}, w} <- Enum.with_index(Exits.ways()) do
      {way, status, Enum.at(Exits.stages(), rem(i + w, 4)), i, Path.join(cache, "#{way}-#{i}")}
    end
    |> Task.async_stream(&end_one/1, max_concurrency: 2, timeout: :infinity)
    |> Enum.map(&elem(&1, 1))
  end

  defp end_one({way, expected, stage, i, cache}) do
    ended = Exits.end_one(embedded(), way, stage, cache, i)
    File.rm_rf!(cache)
    Map.merge(ended, %{way: way, stage: stage, expected: expected})
  end

  defp wrong(ended) do
    for one <- ended, one.status != one.expected, do: one
  end

  test "a VM ends with its status, at every stage of a model's life", %{tmp_dir: dir} do
    assert wrong(rounds(2, dir)) == []
  end

  @tag :endurance
  test "of 100 VMs that end in each way, each ends with its status, and soon", %{tmp_dir: dir} do
    ended = rounds(100, dir)

    for {way, _status} <- Exits.ways(), stage <- Exits.stages() do
      times = for %{way: ^way, stage: ^stage, time: time} <- ended, do: 1000 * time
      report("#{way} while #{stage}: #{times(Enum.sort(times))}")
    end

    assert wrong(ended) == []
    assert Enum.max(Enum.map(ended, & &1.time)) <= 5_000
  end
end
