defmodule Image.ZeroShot.Stub.Owners do
  @moduledoc false

  # Which test has which stub: one process for each name. A stub belongs to the process that made it,
  # and is gone with it.

  use GenServer

  alias Image.ZeroShot.Call.{Argument, Callers}
  alias Image.ZeroShot.Serving.Directory
  alias Image.ZeroShot.Stub.Answer

  @type call :: {:picture, term()} | {:texts, [String.t()]}

  @spec start_link(atom()) :: GenServer.on_start()
  def start_link(name),
    do: GenServer.start_link(__MODULE__, [], name: Directory.via({:stub, name}))

  @spec put(atom(), Answer.t() | (term() -> Answer.t())) :: :ok
  def put(name, answer), do: request!(name, {:put, self(), answer})

  @spec allow(atom(), pid(), pid()) :: :ok
  def allow(name, owner, other), do: request!(name, {:allow, owner, other})

  @spec share(atom()) :: :ok
  def share(name), do: request!(name, {:share, self()})

  @spec calls(atom()) :: [call()]
  def calls(name), do: request!(name, {:calls, Callers.all()})

  @doc """
  The answer for the calling process. Remembers the call.
  """
  @spec fetch!(atom(), call()) :: Answer.t() | (term() -> Answer.t())
  def fetch!(name, call), do: request!(name, {:fetch, Callers.all(), call})

  defp request!(name, _request) when not is_atom(name),
    do: Argument.wrong!("the name of a stub, an atom", name)

  defp request!(name, request) do
    with {owners, _nothing} <- Directory.find({:stub, name}),
         {:ok, value} <- GenServer.call(owners, request, :infinity) do
      value
    else
      nil -> raise ArgumentError, not_started(name)
      {:error, fault} -> raise ArgumentError, fault.(inspect(name))
    end
  end

  defp not_started(name) do
    "no stub of the name #{inspect(name)} is running on this node; start it with " <>
      "{Image.ZeroShot.Test, name: #{inspect(name)}} where the application starts its serving"
  end

  @impl true
  def init([]), do: {:ok, %{stubs: %{}, allowed: %{}, shared: nil, monitors: %{}}}

  @impl true
  def handle_call({:put, owner, answer}, _from, state) do
    stub = Map.get(state.stubs, owner, %{calls: []})
    stubs = Map.put(state.stubs, owner, Map.put(stub, :answer, answer))
    {:reply, {:ok, :ok}, watch(%{state | stubs: stubs}, owner)}
  end

  def handle_call({:allow, owner, other}, _from, state) do
    owner = owner(state, [owner])
    taken = state.allowed[other]

    cond do
      owner == nil -> {:reply, {:error, &nothing_to_share/1}, state}
      is_map_key(state.stubs, other) -> {:reply, {:error, &has_own(&1, other)}, state}
      taken not in [nil, owner] -> {:reply, {:error, &belongs(&1, other, taken)}, state}
      true -> {:reply, {:ok, :ok}, state |> put_in([:allowed, other], owner) |> watch(other)}
    end
  end

  def handle_call({:share, owner}, _from, %{shared: shared} = state) do
    cond do
      not is_map_key(state.stubs, owner) -> {:reply, {:error, &nothing_to_share/1}, state}
      shared not in [nil, owner] -> {:reply, {:error, &shared_twice(&1, shared)}, state}
      true -> {:reply, {:ok, :ok}, %{state | shared: owner}}
    end
  end

  def handle_call({:fetch, callers, call}, _from, state) do
    case owner(state, callers) do
      nil ->
        {:reply, {:error, &nothing(&1, callers)}, state}

      owner ->
        state = update_in(state.stubs[owner].calls, &[call | &1])
        {:reply, {:ok, state.stubs[owner].answer}, state}
    end
  end

  def handle_call({:calls, callers}, _from, state) do
    case owner(state, callers) do
      nil -> {:reply, {:error, &nothing(&1, callers)}, state}
      owner -> {:reply, {:ok, Enum.reverse(state.stubs[owner].calls)}, state}
    end
  end

  @impl true
  def handle_info({:DOWN, _monitor, :process, pid, _reason}, state) do
    allowed = Map.reject(state.allowed, fn {other, owner} -> pid in [other, owner] end)
    shared = if state.shared != pid, do: state.shared
    {_monitor, monitors} = Map.pop(state.monitors, pid)
    stubs = Map.delete(state.stubs, pid)
    {:noreply, %{state | stubs: stubs, allowed: allowed, shared: shared, monitors: monitors}}
  end

  defp owner(state, callers) do
    Enum.find_value(callers, state.shared, fn pid ->
      if is_map_key(state.stubs, pid), do: pid, else: state.allowed[pid]
    end)
  end

  defp watch(state, pid) do
    if is_map_key(state.monitors, pid),
      do: state,
      else: put_in(state.monitors[pid], Process.monitor(pid))
  end

  defp nothing(name, [caller | _] = callers) do
    tests = if length(callers) > 1, do: " nor for its callers #{inspect(tl(callers))}"

    "nothing is stubbed for #{name} in the process #{inspect(caller)}#{tests}; call " <>
      "Image.ZeroShot.Test.stub(#{name}, \"dog\") in the test, and for a process that the test did " <>
      "not start Image.ZeroShot.Test.allow(#{name}, self(), pid) or Image.ZeroShot.Test.share(#{name})"
  end

  defp nothing_to_share(name),
    do: "the process has no stub for #{name}; call Image.ZeroShot.Test.stub/2 first"

  defp has_own(name, pid), do: "#{inspect(pid)} has a stub of its own for #{name}"

  defp belongs(name, pid, owner),
    do: "#{inspect(pid)} is allowed the stub of #{inspect(owner)} for #{name} already"

  defp shared_twice(name, owner) do
    "#{inspect(owner)} shares its stub for #{name} already; tests that share one cannot be async"
  end
end
