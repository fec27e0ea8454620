defmodule Image.ZeroShot.PaceTest do
  use ExUnit.Case, async: true

  alias Image.ZeroShot.Serving.Pace

  @model %{max_batch: 4, concurrency: 1}
  # 64 prompts are a batch of this model.
  @batch 64
  @nothing %{short: 0, long: 0, prompts: 0}
  @ms 1_000_000

  # Batches of this model: what they hold, and what they take in nanoseconds.
  defp pace(batches) do
    Enum.reduce(batches, %Pace{}, fn {pictures, prompts, took}, pace ->
      Pace.record(pace, 16 * pictures + prompts, took, 4)
    end)
  end

  # In proportion to the work, a millisecond for that of a prompt.
  @rates {@ms, @batch * @ms, @batch}

  defp ms(ahead, work, model \\ @model),
    do: Pace.milliseconds(ahead, work, model, @rates, 100_000)

  test "nothing is known before the first batch" do
    assert Pace.rates(%Pace{}) == {0, 0, 0}
    assert Pace.milliseconds(%{@nothing | short: 1_000}, {:short, 16}, @model, {0, 0, 0}, 1) == 0
    assert Pace.room(%Pace{}, 2) == 32
    # A full batch of unknown cost could take longer than any of its callers has.
    assert Pace.room(%Pace{}, 128) == 64
  end

  test "a picture counts as 16 prompts" do
    assert Pace.rates(pace([{2, 8, 400}])) == {10, 400, 40}
  end

  test "the last batches count most, and small ones less than full ones" do
    before = List.duplicate({4, 0, 6_400}, 20)
    assert Pace.rates(pace(before)) == {100, 6_400, 64}
    {now, _, _} = Pace.rates(pace(before ++ List.duplicate({4, 0, 12_800}, 10)))
    assert_in_delta now, 200, 5
    {small, _, _} = Pace.rates(pace(before ++ [{1, 0, 3_200}]))
    {full, _, _} = Pace.rates(pace(before ++ [{4, 0, 12_800}]))
    assert small - 100 < (full - 100) / 3
  end

  test "batches grow by and by where only small ones are known" do
    assert Pace.room(pace([{1, 0, 100}]), 16) == 4 * 16
    assert Pace.room(pace([{0, 1, 100}]), 16) == 16
    assert Pace.room(pace([{1, 0, 100}, {4, 0, 200}]), 16) in 100..220
    assert Pace.room(pace(List.duplicate({16, 0, 400}, 3)), 16) == 256
  end

  test "a short call waits for the short ones before it, and for itself" do
    assert ms(@nothing, {:short, 16}) == 16
    assert ms(%{@nothing | short: 160}, {:short, 16}) == 176
    assert ms(%{@nothing | short: 160}, {:short, 16}, %{@model | concurrency: 2}) == 88
  end

  test "a short call waits for a part of a long one with each of its batches" do
    long = fn count -> %{short: 0, long: count, prompts: count * @batch} end
    for count <- 1..20, do: assert(ms(long.(count), {:short, 16}) == 80)

    # Three batches, and as many parts at most.
    assert ms(%{long.(20) | short: 2 * @batch}, {:short, 16}) == 5 * @batch + 16
    assert ms(%{long.(1) | short: 2 * @batch}, {:short, 16}) == 3 * @batch + 16
  end

  test "a long call waits with each part for those of others, and for a batch of short ones" do
    long = {:long, @batch, 10}
    assert ms(@nothing, long) == 10 * @batch
    assert ms(%{@nothing | short: 16}, long) == 10 * (@batch + 16)
    ahead = %{short: 1_000, long: 3, prompts: 3 * @batch}
    assert ms(ahead, long) == 10 * (4 * @batch + 4 * @batch)
  end

  test "the pace of small batches does not refuse a large one before a large one was measured" do
    # A picture alone takes 160 ms; sixteen of them may take as long, or sixteen times as long.
    rates = {10 * @ms, 160 * @ms, 16}
    model = %{max_batch: 16, concurrency: 1}
    estimate = &Pace.milliseconds(%{@nothing | short: 16 * &1}, {:short, 16}, model, rates, &2)
    assert estimate.(99, 60_000) == 100 * 160
    assert estimate.(99, 5_000) == 7 * 160
    # Four together would take 0.64 s, which is too much of two seconds.
    assert estimate.(99, 2_000) == 100 * 160
    # Full batches are known.
    assert Pace.milliseconds(
             %{@nothing | short: 1_600},
             {:short, 16},
             model,
             {10 * @ms, 2_560 * @ms, 256},
             5_000
           ) == 16_160
  end
end
