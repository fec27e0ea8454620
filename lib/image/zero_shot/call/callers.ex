defmodule Image.ZeroShot.Call.Callers do
  @moduledoc false

  # The process that calls, and those for which it works, as `Task` keeps them in `$callers`.

  @type owner :: non_neg_integer()

  @doc """
  This process, and those for which it works, the first one last.
  """
  @spec all() :: [pid(), ...]
  def all, do: [self() | Process.get(:"$callers", [])]

  @doc """
  The owner of what this process asks for. Owners take turns in a serving and on the native library's threads.

  All tasks of a process count as one owner: otherwise a hundred tasks would have a hundred turns.
  """
  @spec owner() :: owner()
  def owner, do: all() |> List.last() |> :erlang.phash2()

  @doc """
  Makes this process work for others.
  """
  @spec work_for([pid()]) :: :ok
  def work_for(callers) do
    Process.put(:"$callers", callers)
    :ok
  end
end
