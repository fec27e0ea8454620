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
  @spec fetch(atom() | pid()) :: {:ok, term()} | {:error, Error.t()}
  def fetch(server) do
    pid = if is_pid(server), do: server, else: Process.whereis(server)

    case pid && kind(pid) do
      :owner ->
        {:ok, GenServer.call(pid, :held, :infinity)}

      :other ->
        raise ArgumentError,
              "expected the name or the process of an Image.ZeroShot.Index, got: " <>
                "#{inspect(server)}, which is another process"

      :remote ->
        raise ArgumentError,
              "expected an index of this node, got: #{inspect(server)}, which is on " <>
                "#{inspect(node(pid))}; call this function there, with :erpc.call/4"

      nil ->
        down(server)
    end
  catch
    :exit, _reason -> down(server)
  end

  # A question to any other process could end it.
  defp kind(pid) when node(pid) != node(), do: :remote

  defp kind(pid) do
    with {:dictionary, dictionary} <- Process.info(pid, :dictionary) do
      if dictionary[:"$initial_call"] == {__MODULE__, :init, 1}, do: :owner, else: :other
    end
  end

  defp down(server) do
    Error.error(
      :index_down,
      "the index #{inspect(server)} is not started, or is restarting; try again, or start " <>
        "{Image.ZeroShot.Index, name: #{inspect(server)}}"
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
