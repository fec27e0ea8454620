defmodule Image.ZeroShot.Test.Captured do
  @moduledoc false

  # What a Mix task returns and prints. The standard error belongs to the whole VM: such tests are not async.

  import ExUnit.CaptureIO
  import ExUnit.Assertions

  @doc """
  Runs a function. Returns its result, and what it wrote to the standard output and to the standard error.
  """
  @spec captured((... -> result)) :: {result, String.t(), String.t()} when result: term()
  def captured(fun) do
    test = self()

    told =
      capture_io(:stderr, fn ->
        shown = capture_io(fn -> send(test, {:result, fun.()}) end)
        send(test, {:shown, shown})
      end)

    assert_received {:result, result}
    assert_received {:shown, shown}
    {result, shown, told}
  end
end
