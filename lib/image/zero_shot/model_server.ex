defmodule Image.ZeroShot.ModelServer do
  @moduledoc false

  # One process per model: it loads the model, owns it and unloads it.
  #
  # Callers read the loaded model from the registry and send no message. While the model is being
  # loaded they wait for the process, however many there are; a load that fails fails for all who
  # wait, and the next caller starts a new one.
  #
  # How a model is opened and closed is up to the loader, a module. What it is opened with beside
  # the key, such as the token for a download, makes no other model, and is forgotten afterwards.

  use GenServer, restart: :temporary, shutdown: 30_000

  alias Image.ZeroShot.Error

  @registry Image.ZeroShot.ModelRegistry
  @supervisor Image.ZeroShot.ModelSupervisor

  # A caller can meet a process that is about to stop; more often than this it is no accident.
  @attempts 5

  @type key :: term()
  @type model :: term()

  @callback open(key(), how :: term()) :: {:ok, model()} | {:error, Error.t()}
  @callback close(model()) :: term()

  @spec tree() :: [Supervisor.child_spec() | {module(), term()}]
  def tree do
    [
      {Registry, keys: :unique, name: @registry},
      {DynamicSupervisor, name: @supervisor, strategy: :one_for_one}
    ]
  end

  @doc """
  The model of `key`, loaded by `loader` unless it is there.
  """
  @spec fetch(key(), module(), how :: term()) :: {:ok, model()} | {:error, Error.t()}
  def fetch(key, loader, how \\ nil), do: fetch(key, loader, how, @attempts)

  defp fetch(_key, _loader, _how, 0) do
    Error.error(:internal, "the process that loads the model ended #{@attempts} times")
  end

  defp fetch(key, loader, how, attempts) do
    case lookup(key) do
      {_server, {:ready, model}} -> {:ok, model}
      {server, :loading} -> await(server, key, loader, how, attempts)
      nil -> key |> start(loader, how) |> await(key, loader, how, attempts)
    end
  end

  # Loading takes as long as it takes: there is nothing to do without the model.
  defp await(server, key, loader, how, attempts) do
    GenServer.call(server, :model, :infinity)
  catch
    :exit, _reason -> fetch(key, loader, how, attempts - 1)
  end

  defp start(key, loader, how) do
    case DynamicSupervisor.start_child(@supervisor, {__MODULE__, {key, loader, how}}) do
      {:ok, server} -> server
      {:error, {:already_started, server}} -> server
    end
  end

  @doc """
  The model of `key` if it is loaded.
  """
  @spec loaded(key()) :: {:ok, model()} | :error
  def loaded(key) do
    case lookup(key) do
      {_server, {:ready, model}} -> {:ok, model}
      _none_or_loading -> :error
    end
  end

  @doc """
  Stops the process of `key`, if there is one, and returns when the model is closed.
  """
  @spec stop(key()) :: :ok
  def stop(key) do
    with {server, _state} <- lookup(key) do
      DynamicSupervisor.terminate_child(@supervisor, server)
    end

    :ok
  end

  # The registry learns a moment later that a process has ended.
  defp lookup(key) do
    case Registry.lookup(@registry, key) do
      [{server, _value} = entry] -> if Process.alive?(server), do: entry
      [] -> nil
    end
  rescue
    ArgumentError ->
      reraise "the application :image_zero_shot is not started: in a script call " <>
                "Application.ensure_all_started(:image_zero_shot), or use `mix run`",
              __STACKTRACE__
  end

  def start_link({key, loader, how}) do
    name = {:via, Registry, {@registry, key, :loading}}
    GenServer.start_link(__MODULE__, {key, loader, how}, name: name)
  end

  @impl true
  def init({key, loader, how}) do
    # So that terminate/2 runs when the supervisor stops this process.
    Process.flag(:trap_exit, true)
    {:ok, %{key: key, loader: loader, model: nil, error: nil}, {:continue, {:load, how}}}
  end

  @impl true
  def handle_continue({:load, how}, %{key: key} = state) do
    case state.loader.open(key, how) do
      {:ok, model} ->
        {_new, _old} = Registry.update_value(@registry, key, fn :loading -> {:ready, model} end)
        {:noreply, %{state | model: model}}

      {:error, error} ->
        # From here on nobody new finds this process. Those who did are in the mailbox already
        # or arrive too late, and then try again; the timeout comes when the mailbox is empty.
        Registry.unregister(@registry, key)
        {:noreply, %{state | error: error}, 0}
    end
  end

  @impl true
  def handle_call(:model, _from, %{error: nil} = state), do: {:reply, {:ok, state.model}, state}
  def handle_call(:model, _from, state), do: {:reply, {:error, state.error}, state, 0}

  @impl true
  def handle_info(:timeout, state), do: {:stop, :normal, state}
  def handle_info({:EXIT, _registry, reason}, state), do: {:stop, reason, state}
  def handle_info(_other, %{error: nil} = state), do: {:noreply, state}
  def handle_info(_other, state), do: {:noreply, state, 0}

  @impl true
  def terminate(_reason, %{model: nil}), do: :ok
  def terminate(_reason, state), do: state.loader.close(state.model)
end
