defmodule Image.ZeroShot.Native.Turn do
  @moduledoc false

  # Whose turn it is on the native library's threads.

  @doc """
  The owner of what this process asks for. Owners take turns.

  All tasks of a process count as one owner: otherwise a hundred tasks would have a hundred turns.
  """
  @spec owner() :: non_neg_integer()
  def owner, do: [self() | Process.get(:"$callers", [])] |> List.last() |> :erlang.phash2()
end
