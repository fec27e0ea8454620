defmodule Image.ZeroShot.Serving.Handle do
  @moduledoc false

  # Calls to the process of a serving, which may have terminated.

  alias Image.ZeroShot.{Error, Serving}
  alias Image.ZeroShot.Serving.Directory

  @doc """
  Waits until the model is loaded.
  """
  @spec await(pid()) :: {:ok, Serving.info()} | {:error, Error.t()} | :gone
  def await(server) do
    GenServer.call(server, :await, :infinity)
  catch
    :exit, _reason -> :gone
  end

  @doc """
  Returns what callers may know of the serving.
  """
  @spec entry(pid()) :: Directory.entry() | nil
  def entry(server) do
    GenServer.call(server, :entry)
  catch
    :exit, _reason -> nil
  end

  @doc """
  Returns what `Image.ZeroShot.info/1` tells.
  """
  @spec describe(pid()) :: {:ok, map()} | {:error, Error.t()}
  def describe(server) do
    GenServer.call(server, :describe)
  catch
    :exit, _reason ->
      Error.error(:serving_down, "the process that keeps the model does not answer")
  end

  @doc """
  Terminates the serving. Returns when the memory of its model is given back.
  """
  @spec unload(pid()) :: :ok
  def unload(server) do
    monitor = Process.monitor(server)

    try do
      {runner, model} = GenServer.call(server, :unload)
      receive do: ({:DOWN, ^monitor, :process, _server, _reason} -> :ok)
      if model, do: runner.close(model), else: :ok
    catch
      :exit, _reason -> :ok
    after
      Process.demonitor(monitor, [:flush])
    end
  end
end
