defmodule Image.ZeroShot.CLI.Demo.Budget do
  @moduledoc false

  # The bytes that the bodies of all requests take. Who started a process releases what it holds when it has
  # ended, so that a killed one holds nothing.

  @enforce_keys [:table, :most]
  defstruct [:table, :most]

  @type t :: %__MODULE__{table: :ets.table(), most: pos_integer()}

  @spec new(pos_integer()) :: t()
  def new(most), do: %__MODULE__{table: :ets.new(__MODULE__, [:public]), most: most}

  @doc """
  Reserves bytes for the calling process.
  """
  @spec reserve(t(), non_neg_integer()) :: :ok | :full
  def reserve(budget, bytes) do
    true = :ets.insert(budget.table, {self(), bytes})

    if held(budget) <= budget.most do
      :ok
    else
      release(budget, self())
      :full
    end
  end

  @spec release(t(), pid()) :: :ok
  def release(budget, process) do
    true = :ets.delete(budget.table, process)
    :ok
  end

  @spec held(t()) :: non_neg_integer()
  def held(budget), do: :ets.foldl(fn {_process, bytes}, sum -> sum + bytes end, 0, budget.table)
end
