defmodule Image.ZeroShot.Serving.Turns do
  @moduledoc false

  # A queue in which owners take turns: an owner of a hundred items gets one out for each item of the other
  # owners. Items of one owner leave in the order in which they came. Plain data, not a process.

  # `sizes` says how many owners have so many items: `before/2` is asked for each item of a full queue.
  defstruct items: %{}, turns: :queue.new(), sizes: %{}, length: 0

  @type owner :: term()
  @type t(item) :: %__MODULE__{
          items: %{owner() => {pos_integer(), :queue.queue(item)}},
          turns: :queue.queue(owner()),
          sizes: %{pos_integer() => pos_integer()},
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
    add(%{queue | turns: turns}, owner, &:queue.in(item, &1))
  end

  @doc """
  Adds an item before all others.
  """
  @spec push_front(t(item), owner(), item) :: t(item) when item: term()
  def push_front(%{turns: turns} = queue, owner, item) do
    turns = :queue.in_r(owner, :queue.filter(&(&1 != owner), turns))
    add(%{queue | turns: turns}, owner, &:queue.in_r(item, &1))
  end

  defp add(%{items: items} = queue, owner, insert) do
    {size, mine} = Map.get(items, owner, {0, :queue.new()})

    %{
      queue
      | items: Map.put(items, owner, {size + 1, insert.(mine)}),
        sizes: resize(queue.sizes, size, size + 1),
        length: queue.length + 1
    }
  end

  # An owner that had `from` items has `to`.
  defp resize(sizes, from, to) do
    sizes = if to > 0, do: Map.update(sizes, to, 1, &(&1 + 1)), else: sizes

    case sizes do
      %{^from => 1} -> Map.delete(sizes, from)
      %{^from => owners} -> %{sizes | from => owners - 1}
      %{} -> sizes
    end
  end

  @doc """
  The item that goes next.
  """
  @spec peek(t(item)) :: {:value, item} | :empty when item: term()
  def peek(%{items: items, turns: turns}) do
    case :queue.peek(turns) do
      {:value, owner} -> items |> Map.fetch!(owner) |> elem(1) |> :queue.peek()
      :empty -> :empty
    end
  end

  @doc """
  Takes out the item that goes next, of a queue that is not empty. Its owner is the last in turn then.
  """
  @spec pop(t(item)) :: {item, t(item)} when item: term()
  def pop(%{items: items, turns: turns} = queue) do
    {{:value, owner}, turns} = :queue.out(turns)
    {size, mine} = Map.fetch!(items, owner)
    {{:value, item}, mine} = :queue.out(mine)

    {items, turns} =
      if size == 1,
        do: {Map.delete(items, owner), turns},
        else: {Map.put(items, owner, {size - 1, mine}), :queue.in(owner, turns)}

    sizes = resize(queue.sizes, size, size - 1)
    {item, %{queue | items: items, turns: turns, sizes: sizes, length: queue.length - 1}}
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
  def before(%{items: items, sizes: sizes}, owner) do
    {mine, _items} = Map.get(items, owner, {0, nil})
    sum_before(sizes, mine)
  end

  @doc """
  The same where only the number of items of each owner is known.
  """
  @spec before_in(%{owner() => non_neg_integer()}, owner()) :: non_neg_integer()
  def before_in(counts, owner),
    do: counts |> Map.values() |> Enum.frequencies() |> sum_before(Map.get(counts, owner, 0))

  # Each other owner has a turn before each item of this owner's and before the further one, as long as it has
  # items. This owner is among the sizes too, with all its items.
  defp sum_before(sizes, mine),
    do: for({size, owners} <- sizes, reduce: 0, do: (sum -> sum + owners * min(size, mine + 1)))
end
