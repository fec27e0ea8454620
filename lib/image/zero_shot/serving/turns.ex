defmodule Image.ZeroShot.Serving.Turns do
  @moduledoc false

  # A queue in which owners take turns: an owner of a hundred items gets one out for each item of the other
  # owners. Items of one owner leave in the order in which they came. Plain data, not a process.

  defstruct items: %{}, turns: :queue.new(), length: 0

  @type owner :: term()
  @type t(item) :: %__MODULE__{
          items: %{owner() => :queue.queue(item)},
          turns: :queue.queue(owner()),
          length: non_neg_integer()
        }

  @spec new() :: t(term())
  def new, do: %__MODULE__{}

  @doc """
  Adds an item behind those of its owner.
  """
  @spec push(t(item), owner(), item) :: t(item) when item: term()
  def push(%{items: items, turns: turns} = queue, owner, item) do
    turns = if is_map_key(items, owner), do: turns, else: :queue.in(owner, turns)
    mine = :queue.in(item, Map.get(items, owner, :queue.new()))
    %{queue | items: Map.put(items, owner, mine), turns: turns, length: queue.length + 1}
  end

  @doc """
  Adds an item before all others.
  """
  @spec push_front(t(item), owner(), item) :: t(item) when item: term()
  def push_front(%{items: items, turns: turns} = queue, owner, item) do
    turns = :queue.in_r(owner, :queue.filter(&(&1 != owner), turns))
    mine = :queue.in_r(item, Map.get(items, owner, :queue.new()))
    %{queue | items: Map.put(items, owner, mine), turns: turns, length: queue.length + 1}
  end

  @doc """
  The item that goes next.
  """
  @spec peek(t(item)) :: {:value, item} | :empty when item: term()
  def peek(%{items: items, turns: turns}) do
    case :queue.peek(turns) do
      {:value, owner} -> :queue.peek(Map.fetch!(items, owner))
      :empty -> :empty
    end
  end

  @doc """
  Takes out the item that goes next, of a queue that is not empty. Its owner is the last in turn then.
  """
  @spec pop(t(item)) :: {item, t(item)} when item: term()
  def pop(%{items: items, turns: turns} = queue) do
    {{:value, owner}, turns} = :queue.out(turns)
    {{:value, item}, mine} = :queue.out(Map.fetch!(items, owner))

    {items, turns} =
      if :queue.is_empty(mine),
        do: {Map.delete(items, owner), turns},
        else: {Map.put(items, owner, mine), :queue.in(owner, turns)}

    {item, %{queue | items: items, turns: turns, length: queue.length - 1}}
  end

  @doc """
  All items in the order in which they go.
  """
  @spec to_list(t(item)) :: [item] when item: term()
  def to_list(%{length: 0}), do: []

  def to_list(queue) do
    {item, queue} = pop(queue)
    [item | to_list(queue)]
  end

  @doc """
  How many items go before a further one of this owner.
  """
  @spec before(t(term()), owner()) :: non_neg_integer()
  def before(%{items: items}, owner) do
    items |> Map.new(fn {owner, mine} -> {owner, :queue.len(mine)} end) |> before_in(owner)
  end

  @doc """
  The same where only the number of items of each owner is known.
  """
  @spec before_in(%{owner() => pos_integer()}, owner()) :: non_neg_integer()
  def before_in(counts, owner) do
    mine = Map.get(counts, owner, 0)

    for({_owner, count} <- Map.delete(counts, owner), do: min(count, mine + 1))
    |> Enum.sum()
    |> Kernel.+(mine)
  end
end
