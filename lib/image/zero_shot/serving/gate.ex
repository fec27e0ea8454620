defmodule Image.ZeroShot.Serving.Gate do
  @moduledoc false

  # Who is inside a serving, what work they brought, and whether one more can be served in time.
  #
  # A table with the pid of everyone who is inside, and not only counters: a caller can be killed at
  # any moment, and its place must be found again. A refusal costs a few operations on the table and
  # the counters, no message and no copy of anything.
  #
  # The table is public because callers come and go without asking the serving. The worst that a
  # stranger who writes to it can do is to change who is counted: rows that make no sense are removed
  # and the sums are taken anew with each sweep, and a table that is deleted ends the serving, which
  # is started again.
  #
  # Short calls, and long lists of prompts, which go in parts, take turns in the queue, and are counted
  # apart (see `Queue` and `Pace`).

  alias Image.ZeroShot.Call.Callers
  alias Image.ZeroShot.Serving.{Pace, Turns}

  @enforce_keys [:table, :max, :sums]
  defstruct [:table, :max, :sums]

  # Places in the sums: the work of short calls; long calls, and their prompts that wait; and the
  # three rates of `Pace`.
  @short 1
  @long 2
  @prompts 3
  @rates [4, 5, 6]

  @type t :: %__MODULE__{
          table: :ets.table(),
          max: pos_integer() | :infinity,
          sums: :atomics.atomics_ref()
        }

  @one_picture {:short, Pace.prompts_a_picture()}

  @doc """
  A gate that ends with the process that calls this.
  """
  @spec new(pos_integer() | :infinity) :: t()
  def new(max) do
    table = :ets.new(__MODULE__, [:set, :public, write_concurrency: true])
    %__MODULE__{table: table, max: max, sums: :atomics.new(6, signed: true)}
  end

  @doc """
  Lets the calling process in with this work, unless the gate is full, or gone together with its
  serving. `:inside` if it is there already.

  Tells how many milliseconds of the `left` ones the work will take, that of others before it
  included: `0` if no one else is inside or nothing is known.
  """
  @spec enter(t(), Pace.work(), Pace.model() | nil, timeout()) ::
          {:ok, non_neg_integer()} | :inside | :full | :too_many_prompts | :gone
  def enter(%__MODULE__{} = gate, work, model, left) do
    counted = counted(work)

    if :ets.insert_new(gate.table, {self(), counted, Callers.owner()}) do
      ahead = add(gate.sums, counted)

      with :ok <- check(gate, ahead, work),
           do: {:ok, estimate(gate, ahead, work, model, left)},
           else: (refused -> leave(gate, refused))
    else
      :inside
    end
  rescue
    ArgumentError -> :gone
  end

  @doc """
  Lets the calling process in with one picture.
  """
  @spec enter(t()) :: :ok | :inside | :full | :gone
  def enter(gate), do: with({:ok, _ms} <- enter(gate, @one_picture, nil, :infinity), do: :ok)

  # Callers that knock in the same microsecond on a gate with one place left may all be refused;
  # never are there more inside than the bound. An atom is more than any number.
  defp check(%{max: max} = gate, ahead, work) do
    size = :ets.info(gate.table, :size)

    cond do
      size == :undefined -> :gone
      size > max -> :full
      too_many_prompts?(max, ahead, work) -> :too_many_prompts
      true -> :ok
    end
  end

  defp too_many_prompts?(:infinity, _ahead, _work), do: false
  defp too_many_prompts?(_max, _ahead, {:short, _work}), do: false
  defp too_many_prompts?(_max, %{prompts: 0}, _work), do: false

  defp too_many_prompts?(max, ahead, {:long, prompts, _parts}),
    do: ahead.prompts + prompts > max_prompts(max)

  @doc """
  The most prompts of long calls that wait at a time.
  """
  @spec max_prompts(pos_integer()) :: pos_integer()
  def max_prompts(max), do: max * Pace.prompts_a_picture()

  defp leave(gate, refused) do
    leave(gate)
    refused
  end

  @spec leave(t()) :: :ok
  def leave(%__MODULE__{table: table, sums: sums}) do
    for {_pid, counted, _owner} <- :ets.take(table, self()), do: subtract(sums, counted)
    :ok
  rescue
    # The serving ended first.
    ArgumentError -> :ok
  end

  # A call that waits for no other is admitted, however long it will take.
  defp estimate(_gate, %{short: 0, long: 0}, _work, _model, _left), do: 0
  defp estimate(_gate, _ahead, _work, nil, _left), do: 0

  defp estimate(gate, ahead, work, model, left) do
    rates = rates(gate)
    needed = Pace.milliseconds(ahead, work, model, rates, left)

    # The table is read only for who would be refused: many of those inside may have their turns later.
    if needed > left,
      do: Pace.milliseconds(in_turn(gate, ahead, work), work, model, rates, left),
      else: needed
  end

  defp in_turn(gate, ahead, work) do
    lane = elem(work, 0)

    owners =
      for {_pid, counted, owner} <- :ets.tab2list(gate.table), lane(counted) == lane, do: owner

    owner = Callers.owner()
    # This call is among them, as the last of its owner.
    others = Enum.frequencies(owners) |> Map.update(owner, 0, &(&1 - 1))
    Pace.part(ahead, lane, Turns.before_in(others, owner), max(length(owners) - 1, 0))
  end

  defp lane({_short, 0, _prompts}), do: :short
  defp lane(_counted), do: :long

  defp rates(gate), do: @rates |> Enum.map(&:atomics.get(gate.sums, &1)) |> List.to_tuple()

  @doc """
  How many milliseconds a request takes once it has everything: the rest of a batch, and its own.
  """
  @spec last_ms(t()) :: non_neg_integer()
  def last_ms(gate) do
    {_prompt, batch, _work} = rates(gate)
    div(2 * batch, 1_000_000)
  end

  @doc """
  Tells callers the pace of the serving. To be called by the serving itself.
  """
  @spec put_rates(t(), Pace.rates()) :: :ok
  def put_rates(gate, rates) do
    for {place, rate} <- Enum.zip(@rates, Tuple.to_list(rates)),
        do: :atomics.put(gate.sums, place, rate)

    :ok
  end

  @doc """
  Whether the serving lives. Sends no message.
  """
  @spec open?(t()) :: boolean()
  def open?(%__MODULE__{table: table}), do: :ets.info(table, :size) != :undefined

  @doc """
  The number of callers inside.
  """
  @spec size(t()) :: non_neg_integer()
  def size(%__MODULE__{table: table}), do: :ets.info(table, :size)

  @doc """
  Takes back the places of callers that have ended without leaving, and puts the sums right.
  """
  @spec sweep(t()) :: :ok
  def sweep(%__MODULE__{table: table, sums: sums}) do
    inside =
      for row <- :ets.tab2list(table), stays?(row) or not :ets.delete(table, elem(row, 0)) do
        elem(row, 1)
      end

    for {place, at} <- [{@short, 0}, {@long, 1}, {@prompts, 2}],
        do: :atomics.put(sums, place, inside |> Enum.map(&elem(&1, at)) |> Enum.sum())

    :ok
  end

  defp stays?({pid, {short, long, prompts}, _owner})
       when is_pid(pid) and is_integer(short) and is_integer(long) and is_integer(prompts),
       do: Process.alive?(pid)

  defp stays?(_senseless), do: false

  defp counted({:short, work}), do: {work, 0, 0}
  defp counted({:long, prompts, _parts}), do: {0, 1, prompts}

  # What was there before. Never below zero, where a stranger has taken rows away.
  defp add(sums, {short, long, prompts}) do
    %{
      short: max(:atomics.add_get(sums, @short, short) - short, 0),
      long: max(:atomics.add_get(sums, @long, long) - long, 0),
      prompts: max(:atomics.add_get(sums, @prompts, prompts) - prompts, 0)
    }
  end

  defp subtract(sums, {short, long, prompts}) do
    :atomics.sub(sums, @short, short)
    :atomics.sub(sums, @long, long)
    :atomics.sub(sums, @prompts, prompts)
  end
end
