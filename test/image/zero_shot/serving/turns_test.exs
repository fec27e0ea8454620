defmodule Image.ZeroShot.Serving.TurnsTest do
  use ExUnit.Case, async: true

  alias Image.ZeroShot.Serving.Turns

  # Items are named by their owner and their number.
  defp turns(items),
    do:
      Enum.reduce(items, Turns.new(), fn {owner, _n} = item, turns ->
        Turns.push(turns, owner, item)
      end)

  defp many(owner, count), do: for(n <- 1..count, do: {owner, n})

  test "gives each owner one item in turn, and those of one owner in order" do
    turns = turns(many(:a, 3) ++ many(:b, 1) ++ many(:c, 2))
    assert Turns.to_list(turns) == [a: 1, b: 1, c: 1, a: 2, c: 2, a: 3]
    assert turns.length == 6
    # Who comes meanwhile has the next turn but those that wait already.
    {{:a, 1}, turns} = Turns.pop(turns)

    assert turns |> Turns.push(:d, {:d, 1}) |> Turns.to_list() == [
             b: 1,
             c: 1,
             a: 2,
             d: 1,
             c: 2,
             a: 3
           ]
  end

  test "puts an item before all others" do
    turns = turns(many(:a, 2) ++ many(:b, 2))

    assert turns |> Turns.push_front(:b, {:b, 0}) |> Turns.to_list() == [
             b: 0,
             a: 1,
             b: 1,
             a: 2,
             b: 2
           ]

    assert turns |> Turns.push_front(:c, {:c, 0}) |> Turns.to_list() == [
             c: 0,
             a: 1,
             b: 1,
             a: 2,
             b: 2
           ]
  end

  test "shows what goes next, and is empty in the end" do
    turns = turns(many(:a, 1))
    assert Turns.peek(turns) == {:value, {:a, 1}}
    assert {{:a, 1}, empty} = Turns.pop(turns)
    assert {Turns.peek(empty), Turns.to_list(empty), empty} == {:empty, [], Turns.new()}
  end

  test "tells how many go before a further one, whatever was added and taken out" do
    :rand.seed(:exsss, {1, 2, 3})

    for _round <- 1..50, reduce: Turns.new() do
      turns ->
        owner = Enum.random([:a, :b, :c, :d])

        turns =
          case Enum.random([:push, :push, :push_front, :pop]) do
            :pop when turns.length > 0 -> turns |> Turns.pop() |> elem(1)
            :push_front -> Turns.push_front(turns, owner, {owner, :front})
            _push -> Turns.push(turns, owner, {owner, :back})
          end

        counts = turns |> Turns.to_list() |> Enum.frequencies_by(&elem(&1, 0))

        for owner <- [:a, :b, :c, :d, :e] do
          mine = Map.get(counts, owner, 0)
          others = for {other, count} <- counts, other != owner, do: min(count, mine + 1)
          assert Turns.before(turns, owner) == mine + Enum.sum(others)
          assert Turns.before_in(counts, owner) == mine + Enum.sum(others)
        end

        turns
    end
  end

  test "tells how many go before a further one" do
    turns = turns(many(:a, 40) ++ many(:b, 2))

    for owner <- [:a, :b, :c] do
      list = turns |> Turns.push(owner, :this) |> Turns.to_list()
      assert Turns.before(turns, owner) == Enum.find_index(list, &(&1 == :this))
    end
  end
end
