defmodule Image.ZeroShot.Serving.TextCache do
  @moduledoc false

  # Caches embeddings of prompts, so that a known label needs no run of the text tower.
  #
  # There are two tables. A new prompt goes into the young one. When that is half full, the old one is
  # emptied and the two swap. A hit in the old table moves the prompt to the young one, so prompts in use
  # survive and others are evicted. Callers read the tables themselves; only the serving, which owns
  # them, writes. A caller tells it which prompts to move.

  @enforce_keys [:tables, :max, :state, :owner]
  defstruct [:tables, :max, :state, :owner]

  # Places in the counters: which table is the young one, finds, and prompts that were not found.
  @young 1
  @hits 2
  @misses 3

  @type t :: %__MODULE__{
          tables: {:ets.table(), :ets.table()},
          max: non_neg_integer(),
          state: :atomics.atomics_ref(),
          owner: pid()
        }

  @typedoc "A row of native f32, and whether the prompt was cut."
  @type row :: {binary(), cut :: boolean()}

  @doc """
  A cache of at most `max` prompts that ends with the process that calls this, its owner.
  """
  @spec new(non_neg_integer()) :: t()
  def new(max) do
    options = [:set, :protected, read_concurrency: true]
    tables = {:ets.new(__MODULE__, options), :ets.new(__MODULE__, options)}
    %__MODULE__{tables: tables, max: max, state: :atomics.new(3, signed: false), owner: self()}
  end

  @doc """
  Returns the cached rows of these prompts.
  """
  @spec fetch(t(), [String.t()]) :: %{optional(String.t()) => row()}
  def fetch(_cache, []), do: %{}

  def fetch(cache, prompts) do
    prompts = Enum.uniq(prompts)
    found = for prompt <- prompts, {place, row} <- [find(cache, prompt)], do: {prompt, place, row}
    :atomics.add(cache.state, @hits, length(found))
    :atomics.add(cache.state, @misses, length(prompts) - length(found))
    keep(cache, for({prompt, :old, _row} <- found, do: prompt))
    Map.new(found, fn {prompt, _place, row} -> {prompt, row} end)
  rescue
    # The serving ended. The caller will find that out next.
    ArgumentError -> %{}
  end

  @doc """
  Counts the prompts that are not cached.
  """
  @spec count_new(t(), [String.t()]) :: non_neg_integer()
  def count_new(cache, prompts) do
    Enum.count(prompts, &(find(cache, &1) == nil))
  rescue
    ArgumentError -> length(prompts)
  end

  # The second look into the young table finds prompts that were moved between the first two looks.
  defp find(cache, prompt) do
    {young, old} = tables(cache)
    lookup(:young, young, prompt) || lookup(:old, old, prompt) || lookup(:young, young, prompt)
  end

  defp lookup(place, table, prompt) do
    with [{_prompt, row, cut}] <- :ets.lookup(table, prompt),
         do: {place, {row, cut}},
         else: ([] -> nil)
  end

  defp keep(_cache, []), do: :ok
  defp keep(%{owner: owner} = cache, prompts) when owner == self(), do: move(cache, prompts)

  defp keep(cache, prompts) do
    send(cache.owner, {:keep_prompts, prompts})
    :ok
  end

  @doc """
  Moves prompts that were found in the old table. Only the owner may call this.

  They are taken out of the old one, or both would grow: all that is in use can be moved.
  """
  @spec move(t(), [String.t()]) :: :ok
  def move(cache, prompts) do
    {young, old} = tables(cache)

    for prompt <- prompts, entry <- :ets.lookup(old, prompt) do
      :ets.insert(young, entry)
      :ets.delete(old, prompt)
    end

    :ok
  end

  @doc """
  Caches a prompt. Only the owner may call this.

  The row is copied, so that it does not keep those beside it alive.
  """
  @spec put(t(), String.t(), row()) :: :ok
  def put(%__MODULE__{max: 0}, _prompt, _row), do: :ok

  def put(cache, prompt, {row, cut}) do
    cache |> with_room() |> :ets.insert({:binary.copy(prompt), :binary.copy(row), cut})
    :ok
  end

  defp with_room(%{max: max} = cache) do
    {young, old} = tables(cache)

    cond do
      2 * size(young) >= max ->
        :ets.delete_all_objects(old)
        :atomics.put(cache.state, @young, 1 - :atomics.get(cache.state, @young))
        with_room(cache)

      size(young) + size(old) >= max ->
        :ets.delete_all_objects(old)
        young

      true ->
        young
    end
  end

  defp size(table), do: :ets.info(table, :size)

  defp tables(%{tables: {a, b}, state: state}),
    do: if(:atomics.get(state, @young) == 0, do: {a, b}, else: {b, a})

  @doc """
  How many prompts there are, and how often one was found or was not.
  """
  @spec stats(t()) :: %{
          size: non_neg_integer(),
          max: non_neg_integer(),
          hits: non_neg_integer(),
          misses: non_neg_integer()
        }
  def stats(%{tables: {a, b}, state: state} = cache) do
    %{
      # What is being moved is in both for a moment.
      size: min(size(a) + size(b), cache.max),
      max: cache.max,
      hits: :atomics.get(state, @hits),
      misses: :atomics.get(state, @misses)
    }
  end
end
