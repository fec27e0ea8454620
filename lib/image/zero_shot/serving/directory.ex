defmodule Image.ZeroShot.Serving.Directory do
  @moduledoc false

  # Where servings are found: those of this node in a registry, by the name that an application gave
  # them or by their model; those of the cluster in a process group, by their name.

  alias Image.ZeroShot.Serving
  alias Image.ZeroShot.Serving.{Gate, TextCache}

  @registry Image.ZeroShot.Serving.Registry
  @supervisor Image.ZeroShot.Serving.Supervisor

  @typedoc "A name that an application chose, or what tells one model from another."
  @type key :: {:name, atom()} | {:model, term()}

  @typedoc "What callers know of a serving. `:info` is `nil` while the model is being loaded."
  @type entry :: %{gate: Gate.t(), cache: TextCache.t(), info: Serving.info() | nil}

  @doc """
  The processes that all this rests on, for the supervisor of the application.
  """
  @spec tree() :: [Supervisor.child_spec() | {module(), term()}]
  def tree do
    [
      %{id: :pg, start: {:pg, :start_link, [Serving]}},
      {Registry, keys: :unique, name: @registry},
      # A serving that is killed comes back, and no number of killed ones may end the others. None
      # can come back for ever: where its model cannot be loaded it ends in order.
      {DynamicSupervisor, name: @supervisor, max_restarts: 1_000_000, max_seconds: 1}
    ]
  end

  @doc """
  The serving of `key` on this node, if there is one.
  """
  @spec lookup(key()) :: {pid(), entry()} | nil
  def lookup(key) do
    # Neither `Registry.lookup/2` nor `Process.alive?/1`: while a serving is busy, those wait until
    # it has its turn.
    case Registry.match(@registry, key, :_) do
      # The registry learns a moment later that a process has ended, and that it has a gate.
      [{server, nil}] -> if entry = Serving.entry(server), do: {server, entry}
      [{server, entry}] -> if Gate.open?(entry.gate), do: {server, entry}
      [] -> nil
    end
  rescue
    ArgumentError ->
      reraise "the application :image_zero_shot is not started: in a script call " <>
                "Application.ensure_all_started(:image_zero_shot), or use `mix run`",
              __STACKTRACE__
  end

  @doc """
  Starts a serving under the supervisor of this library, unless another caller was faster.
  """
  @spec start(module(), key(), map()) :: pid()
  def start(runner, key, opts) do
    spec = %{id: key, start: {Serving, :start_link, [runner, key, opts]}, restart: :transient}

    case DynamicSupervisor.start_child(@supervisor, spec) do
      {:ok, server} -> server
      {:error, {:already_started, server}} -> server
    end
  end

  @spec via(key()) :: GenServer.name()
  def via(key), do: {:via, Registry, {@registry, key, nil}}

  @doc """
  Says what callers may know. To be called by the serving itself.
  """
  @spec put(key(), entry()) :: :ok
  def put(key, entry) do
    {_new, _old} = Registry.update_value(@registry, key, fn _old -> entry end)
    :ok
  end

  @doc """
  Hides a serving that is about to end. To be called by the serving itself.
  """
  @spec remove(key()) :: :ok
  def remove(key) do
    :pg.leave(Serving, key, self())
    Registry.unregister(@registry, key)
  end

  @doc """
  Tells the cluster of a serving that has a name. To be called by the serving itself.
  """
  @spec announce(key()) :: :ok
  def announce({:name, _name} = key), do: :pg.join(Serving, key, self())
  def announce(_key), do: :ok

  @doc """
  The servings of a name on other nodes, in random order.
  """
  @spec others(key()) :: [pid()]
  def others(key) do
    (:pg.get_members(Serving, key) -- :pg.get_local_members(Serving, key)) |> Enum.shuffle()
  end

  @doc """
  The name that an application gave to a serving, `nil` for one that was started on first use.
  """
  @spec name(key()) :: atom()
  def name({:name, name}), do: name
  def name({:model, _source}), do: nil
end
