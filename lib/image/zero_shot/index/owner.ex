defmodule Image.ZeroShot.Index.Owner do
  @moduledoc false

  # Holds an index under a name, from when it is opened until it is closed. It takes no part in calls but to
  # hand the index out, so nothing of them can end it.

  use GenServer

  alias Image.ZeroShot.Error

  @typedoc "How to open what is held, and how to close it."
  @type life :: {(... -> {:ok, term()} | {:error, Error.t()}), (term() -> term())}

  @spec start_link(atom(), life()) :: GenServer.on_start()
  def start_link(name, life), do: GenServer.start_link(__MODULE__, life, name: name)

  @doc """
  What a name or a process holds.
  """
  @spec fetch(GenServer.server()) :: {:ok, term()} | {:error, Error.t()}
  def fetch(server) do
    {:ok, GenServer.call(server, :held, :infinity)}
  catch
    :exit, _reason ->
      Error.error(
        :index_down,
        "there is no index #{inspect(server)}: it is not started, or just being started again; " <>
          "try again, or start {Image.ZeroShot.Index, name: #{inspect(server)}}"
      )
  end

  @impl true
  def init({open, close}) do
    # So that `terminate/2` is called when a supervisor ends it.
    Process.flag(:trap_exit, true)

    case open.() do
      {:ok, held} -> {:ok, {held, close}}
      {:error, error} -> {:stop, error}
    end
  end

  @impl true
  def handle_call(:held, _from, {held, close}), do: {:reply, held, {held, close}}

  @impl true
  def terminate(_reason, {held, close}), do: close.(held)
end
