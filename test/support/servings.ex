defmodule Image.ZeroShot.Test.Servings do
  @moduledoc false

  # Servings of a stand-in model (see `Runner`), and calls to them.

  import ExUnit.Callbacks, only: [on_exit: 1]
  import Image.ZeroShot.Test.Wait

  alias Image.ZeroShot.Serving.{Client, Directory, Gate, Handle}
  alias Image.ZeroShot.Test.Runner

  def start(opts) do
    on_exit(fn -> Client.unload(opts) end)
    {:ok, _info} = Client.load(opts)
    server(opts)
  end

  def server(opts) do
    {server, _entry} = Directory.lookup({:model, opts.id})
    server
  end

  def gate(opts) do
    {_server, entry} = Directory.lookup({:model, opts.id})
    entry.gate
  end

  def call(opts, pixels, prompts \\ []),
    do: Task.async(fn -> Runner.call(opts, pixels, prompts) end)

  @doc """
  Returns once so many requests wait or run.
  """
  def wait_for(server, count) do
    eventually(fn ->
      running = :sys.get_state(server).running |> Map.values() |> Enum.map(&length(&1.requests))
      counted(server).queue.waiting + Enum.sum(running) >= count
    end)
  end

  @doc """
  Returns once so many callers are inside, even while the model is being loaded.
  """
  def wait_for_callers(opts, count) do
    eventually(fn ->
      case Directory.lookup({:model, opts.id}) do
        {_server, entry} -> Gate.size(entry.gate) == count
        nil -> false
      end
    end)
  end

  def counted(server) do
    {:ok, info} = Handle.describe(server)
    info
  end
end
