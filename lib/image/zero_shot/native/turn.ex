defmodule Image.ZeroShot.Native.Turn do
  @moduledoc false

  # Whose turn it is, on the native library's threads and in a serving.

  @type owner :: non_neg_integer()

  @doc """
  The owner of what this process asks for. Owners take turns.

  All tasks of a process count as one owner: otherwise a hundred tasks would have a hundred turns.
  """
  @spec owner() :: owner()
  def owner, do: callers() |> List.last() |> :erlang.phash2()

  @doc """
  This process and those for which it works, as `Task` keeps them.
  """
  @spec callers() :: [pid(), ...]
  def callers, do: [self() | Process.get(:"$callers", [])]

  @doc """
  Makes this process work for others.
  """
  @spec take_over([pid()]) :: :ok
  def take_over(callers) do
    Process.put(:"$callers", callers)
    :ok
  end
end
