defmodule Image.ZeroShot.Test.Wait do
  @moduledoc false

  # Waits for a state, never for a time: on a busy machine anything may take seconds. The patience
  # only bounds how long a test that fails goes on.

  import ExUnit.Assertions

  @patience 30_000
  @pause 10

  @doc """
  Returns once `check` holds, for what happens a moment later and tells nobody.
  """
  def eventually(check, attempts \\ div(@patience, @pause)) do
    cond do
      check.() ->
        :ok

      attempts == 0 ->
        flunk("did not happen within #{@patience} ms")

      true ->
        Process.sleep(@pause)
        eventually(check, attempts - 1)
    end
  end

  def await(task), do: Task.await(task, @patience)
  def await_all(tasks), do: Task.await_many(tasks, @patience)

  @doc """
  Does what ends a process, and returns the reason of its end.
  """
  def await_end(process, act) do
    monitor = Process.monitor(process)
    act.()
    assert_receive {:DOWN, ^monitor, :process, ^process, reason}, @patience
    reason
  end

  @doc """
  Kills a process, and returns when it has ended.
  """
  def kill(process), do: await_end(process, fn -> Process.exit(process, :kill) end)
end
