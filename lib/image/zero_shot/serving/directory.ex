defmodule Image.ZeroShot.Serving.Directory do
  @moduledoc false

  # Where servings are found: those of this node in a registry, by the name that an application gave
  # them or by their model; those of the cluster in a process group, by their name.

  alias Image.ZeroShot.{Error, Serving}
  alias Image.ZeroShot.Serving.{Gate, Handle, TextCache}

  @registry Image.ZeroShot.Serving.Registry
  @supervisor Image.ZeroShot.Serving.Supervisor
  @scope Image.ZeroShot.Serving.Cluster

  @typedoc "A name that an application chose, or what tells one model from another."
  @type key :: {:name, atom()} | {:model, term()}

  @typedoc """
  The facts that callers have about a serving. `:info` is `nil` while no model is loaded, `:error` the
  reason if the load failed.
  """
  @type entry :: %{
          gate: Gate.t(),
          cache: TextCache.t(),
          info: Serving.info() | nil,
          error: Error.t() | nil
        }

  @doc """
  The processes that all this rests on, for the supervisor of the application.
  """
  @spec tree() :: [Supervisor.child_spec() | {module(), term()}]
  def tree do
    [
      %{id: :pg, start: {:pg, :start_link, [@scope]}},
      {Registry, keys: :unique, name: @registry},
      # A serving that is killed comes back, and no number of killed ones may end the others. None
      # can come back forever: if its model cannot be loaded, it ends normally.
      {DynamicSupervisor, name: @supervisor, max_restarts: 1_000_000, max_seconds: 1}
    ]
  end

  @doc """
  The serving of `key` on this node, if there is one.
  """
  @spec lookup(key()) :: {pid(), entry()} | nil
  def lookup(key) do
    case find(key) do
      # The registry learns a moment later that a process has ended, and that it has a gate.
      {server, nil} -> if entry = Handle.entry(server), do: {server, entry}
      {server, entry} -> if Gate.open?(entry.gate), do: {server, entry}
      nil -> nil
    end
  end

  @doc """
  The process of `key` on this node, and what it has put there.
  """
  @spec find(term()) :: {pid(), term()} | nil
  def find(key) do
    # Neither `Registry.lookup/2` nor `Process.alive?/1`: while a serving is busy, those wait until
    # it has its turn.
    case Registry.match(@registry, key, :_) do
      [found] -> found
      [] -> nil
    end
  rescue
    # The registry is not there.
    ArgumentError -> nil
  end

  @doc """
  The supervisor of servings without a name.
  """
  @spec supervisor() :: module()
  def supervisor, do: @supervisor

  @spec via(key()) :: GenServer.name()
  def via(key), do: {:via, Registry, {@registry, key, nil}}

  @doc """
  Publishes the facts for callers. Only the serving itself calls this.
  """
  @spec put(key(), entry()) :: :ok
  def put(key, entry) do
    {_new, _old} = Registry.update_value(@registry, key, fn _old -> entry end)
    :ok
  end

  @doc """
  Registers the calling process, unless it is registered. Raises where there is no registry.
  """
  @spec claim(term()) :: :ok
  def claim(key) do
    _registered_now_or_before = Registry.register(@registry, key, nil)
    :ok
  end

  @doc """
  Remembers, until this application stops, that a name has had a model, and facts about it.
  """
  @spec remember(key(), model :: term(), Serving.info()) :: :ok
  def remember(key, model, facts), do: put_meta({:loaded, key}, {model, facts})

  @doc """
  The facts about a model that a name has had, if it was this one.
  """
  @spec remembered(key(), model :: term()) :: Serving.info() | nil
  def remembered(key, model) do
    with {^model, facts} <- meta({:loaded, key}), do: facts, else: (_other -> nil)
  end

  @doc """
  When keepers of a name were restarted after they had been killed, the last one first.
  """
  @spec restarts(key()) :: [integer()]
  def restarts(key), do: meta({:restarts, key}) || []

  @spec put_restarts(key(), [integer()]) :: :ok
  def put_restarts(key, times), do: put_meta({:restarts, key}, times)

  defp meta(name) do
    case Registry.meta(@registry, name) do
      {:ok, value} -> value
      :error -> nil
    end
  rescue
    ArgumentError -> nil
  end

  defp put_meta(name, value) do
    Registry.put_meta(@registry, name, value)
  rescue
    ArgumentError -> :ok
  end

  @doc """
  Hides a serving that is about to end. To be called by the serving itself.
  """
  @spec remove(key()) :: :ok
  def remove(key) do
    safely(fn -> :pg.leave(@scope, key, self()) end)
    Registry.unregister(@registry, key)
  end

  @doc """
  Tells the cluster of a serving that has a name. To be called by the serving itself.
  """
  @spec announce(key()) :: :ok
  def announce({:name, _name} = key), do: safely(fn -> :pg.join(@scope, key, self()) end)
  def announce(_key), do: :ok

  # If the process group has ended, the registry ends next, and every serving with it.
  defp safely(call) do
    call.()
    :ok
  catch
    :exit, _reason -> :ok
  end

  @doc """
  The servings of a name on other nodes, in random order.
  """
  @spec others(key()) :: [pid()]
  def others(key) do
    (:pg.get_members(@scope, key) -- :pg.get_local_members(@scope, key)) |> Enum.shuffle()
  rescue
    # There is no process group.
    ArgumentError -> []
  end

  @doc """
  The name that an application gave to a serving, `nil` for one that was started on first use.
  """
  @spec name(key()) :: atom()
  def name({:name, name}), do: name
  def name({:model, _source}), do: nil
end
