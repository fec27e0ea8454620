defmodule Image.ZeroShot.Serving.Gate do
  @moduledoc false

  # How many callers are inside a serving, and the bound on them.
  #
  # A table with the pid of everyone who is inside, and not a counter: a caller can be killed at any
  # moment, and its place must be found again. A refusal costs three operations on the table, no
  # message and no copy of anything. Callers that knock in the same microsecond on a gate with one
  # place left may all be refused; never are there more inside than the bound.

  @enforce_keys [:table, :max]
  defstruct [:table, :max]

  @type t :: %__MODULE__{table: :ets.table(), max: pos_integer() | :infinity}

  @doc """
  A gate that ends with the process that calls this.
  """
  @spec new(pos_integer() | :infinity) :: t()
  def new(max) do
    %__MODULE__{table: :ets.new(__MODULE__, [:set, :public, write_concurrency: true]), max: max}
  end

  @doc """
  Lets the calling process in, unless the gate is full, or gone together with its serving.
  """
  @spec enter(t()) :: :ok | :full | :gone
  def enter(%__MODULE__{table: table, max: max} = gate) do
    true = :ets.insert(table, {self()})

    # An atom is more than any number.
    if :ets.info(table, :size) <= max do
      :ok
    else
      leave(gate)
      :full
    end
  rescue
    ArgumentError -> :gone
  end

  @spec leave(t()) :: :ok
  def leave(%__MODULE__{table: table}) do
    true = :ets.delete(table, self())
    :ok
  rescue
    # The serving ended first.
    ArgumentError -> :ok
  end

  @doc """
  Whether the serving lives. Asks nobody.
  """
  @spec open?(t()) :: boolean()
  def open?(%__MODULE__{table: table}), do: :ets.info(table, :size) != :undefined

  @doc """
  The number of callers inside.
  """
  @spec size(t()) :: non_neg_integer()
  def size(%__MODULE__{table: table}), do: :ets.info(table, :size)

  @doc """
  Takes back the places of callers that have ended without leaving.
  """
  @spec sweep(t()) :: :ok
  def sweep(%__MODULE__{table: table}) do
    for {pid} <- :ets.tab2list(table), not Process.alive?(pid), do: :ets.delete(table, pid)
    :ok
  end
end
