defmodule Image.ZeroShot.Serving.Keeper do
  @moduledoc false

  # What an application's supervisor has for a child: starts the server that holds the model, and
  # starts it again whenever it terminates. So a server that is killed, or crashes, costs the
  # supervisor no restart.
  #
  # A keeper that is killed itself is restarted by the supervisor. It finds in the directory that
  # its name has had this model before, and then starts whether the model can be loaded or not: the
  # server tries until it can. The very first start fails with the load.

  use GenServer

  require Logger

  alias Image.ZeroShot.Error
  alias Image.ZeroShot.Call.Started
  alias Image.ZeroShot.Serving.{Directory, Runners, Server}

  # A server that lived so long does not end for the reason that ended the one before.
  @calm_ms 10_000
  @at_once 3
  @first_pause_ms 100
  @longest_pause_ms 10_000

  # By default a supervisor gives up at the fourth restart within five seconds, counted in whole
  # seconds.
  @quick_restarts 2
  @restart_window_ms 6_000

  # A supervisor waits for five seconds before it kills.
  @stop_ms 4_000

  @doc """
  Returns when the model is loaded, or when it could not be. The latter is an error unless this name
  has had this model before.
  """
  @spec start_link(Directory.key(), map()) ::
          {:ok, pid()} | {:error, Error.t() | {:already_started, pid()}}
  def start_link(key, opts) do
    facts = Directory.remembered(key, Runners.key(opts))
    if facts, do: spread_restarts(key)

    with {:ok, keeper} <- link({key, opts, facts}, Directory.via({:keeper, key})),
         :ok <- GenServer.call(keeper, :await, :infinity),
         do: {:ok, keeper}
  catch
    :exit, _reason -> Error.error(:serving_down, "the serving terminated while it was starting")
  end

  defp link(arguments, name) do
    GenServer.start_link(__MODULE__, arguments, name: name)
  rescue
    # The registry is not there.
    ArgumentError -> Started.error()
  end

  # Keeps a supervisor with the default limits from giving up when keepers are killed in a row.
  defp spread_restarts(key) do
    recent = key |> Directory.restarts() |> Enum.filter(&(now() - &1 < @restart_window_ms))

    if length(recent) >= @quick_restarts,
      do: Process.sleep(max(List.last(recent) + @restart_window_ms - now(), 0))

    Directory.put_restarts(key, Enum.take([now() | recent], @quick_restarts))
  end

  @doc """
  The server of a name whose last one has terminated, once it is started. `nil` where the name has
  no keeper on this node.
  """
  @spec server(Directory.key()) :: pid() | {:error, Error.t()} | nil
  def server(key) do
    with {keeper, _nothing} <- Directory.find({:keeper, key}), do: GenServer.call(keeper, :server)
  catch
    :exit, _reason -> nil
  end

  @impl true
  def init({key, opts, facts}) do
    Process.flag(:trap_exit, true)

    state = %{
      key: key,
      opts: opts,
      facts: facts,
      server: nil,
      started: now(),
      ends: 0,
      next_try: nil,
      starter: nil,
      outcome: nil,
      asking: []
    }

    {:ok, state, {:continue, :start}}
  end

  @impl true
  def handle_continue(:start, state), do: start(state)

  @impl true
  def handle_call(:await, from, %{outcome: nil} = state),
    do: {:noreply, %{state | starter: from}}

  def handle_call(:await, _from, state), do: {:reply, state.outcome, state}

  def handle_call(:server, _from, %{server: nil} = state), do: {:reply, away(state), state}

  # A server that has ended is replaced when its exit arrives.
  def handle_call(:server, from, state) do
    if Process.alive?(state.server),
      do: {:reply, state.server, state},
      else: {:noreply, %{state | asking: [from | state.asking]}}
  end

  @impl true
  def handle_info({:loaded, server, {:ok, info}}, %{server: server} = state) do
    Directory.remember(state.key, Runners.key(state.opts), info)
    {:noreply, settle(%{state | facts: info}, :ok)}
  end

  def handle_info({:loaded, server, {:error, error}}, %{server: server, facts: nil} = state),
    do: give_up(state, {:error, error})

  # The server tries again by itself.
  def handle_info({:loaded, server, {:error, _error}}, %{server: server} = state),
    do: {:noreply, settle(state, :ok)}

  def handle_info({:EXIT, server, reason}, %{server: server} = state),
    do: restart(state, reason)

  def handle_info(:start, state), do: start(state)

  # Such as the end of the registry, which is linked to those who are in it.
  def handle_info(_other, state), do: {:noreply, state}

  # Also a start that fails ends the time that was calm.
  defp start(state), do: attempt(%{state | started: now()})

  defp attempt(state) do
    Directory.claim({:keeper, state.key})

    case Server.start_link(state.key, state.opts, {self(), state.facts}) do
      {:ok, server} ->
        state = tell(state, server)
        {:noreply, %{state | server: server, next_try: nil}}

      # What another keeper of this name, which was killed, has not taken with it yet.
      {:error, {:already_started, other} = reason} ->
        if ended?(other), do: start(state), else: not_started(state, reason)

      {:error, reason} ->
        not_started(state, reason)
    end
  rescue
    # The registry is not there: the application has stopped, and may come back.
    ArgumentError -> not_started(state, :not_started)
  end

  defp ended?(server) do
    monitor = Process.monitor(server)

    receive do
      {:DOWN, ^monitor, :process, _server, _reason} -> true
    after
      @stop_ms -> not Process.demonitor(monitor, [:flush])
    end
  end

  defp not_started(%{facts: nil} = state, :not_started),
    do: give_up(state, Started.error())

  defp not_started(%{facts: nil} = state, reason), do: give_up(state, {:error, reason})
  defp not_started(state, reason), do: restart(state, reason)

  defp restart(%{facts: nil} = state, reason) do
    {:error, error} =
      Error.error(
        :serving_down,
        "the serving terminated while it was loading the model: #{Exception.format_exit(reason)}"
      )

    give_up(state, {:error, error})
  end

  defp restart(state, reason) do
    ends = if now() - state.started > @calm_ms, do: 1, else: state.ends + 1
    pause = pause(ends)
    warn(state, reason, pause)
    state = %{state | server: nil, ends: ends, next_try: now() + pause}

    if pause == 0 do
      start(state)
    else
      Process.send_after(self(), :start, pause)
      {:noreply, state |> settle(:ok) |> tell(away(state))}
    end
  end

  defp tell(state, server) do
    for from <- state.asking, do: GenServer.reply(from, server)
    %{state | asking: []}
  end

  defp pause(ends) when ends <= @at_once, do: 0

  defp pause(ends),
    do: min(@first_pause_ms * 2 ** min(ends - @at_once - 1, 10), @longest_pause_ms)

  # The starter gets the error as an answer. A normal exit keeps the supervisor from restarting.
  defp give_up(state, error), do: {:stop, :normal, settle(state, error)}

  defp settle(state, outcome) do
    if state.starter, do: GenServer.reply(state.starter, outcome)
    %{state | starter: nil, outcome: state.outcome || outcome}
  end

  defp warn(state, reason, pause) do
    Logger.warning(
      "the serving #{name(state)} of #{Runners.title(state.opts)} terminated " <>
        "(#{describe(reason)}), and starts again #{if pause == 0, do: "now", else: "in #{pause} ms"}"
    )
  end

  defp describe(:not_started), do: "the application :image_zero_shot is not started"
  defp describe(reason), do: Exception.format_exit(reason)

  defp away(state) do
    Error.error(
      :serving_down,
      "the serving #{name(state)} terminated #{state.ends} times in a row, and starts again in " <>
        "#{max(state.next_try - now(), 0)} ms"
    )
  end

  defp name(%{key: {:name, name}}), do: inspect(name)

  # The server has to be gone when a supervisor believes so.
  @impl true
  def terminate(reason, state) do
    if orderly?(reason), do: Directory.put_restarts(state.key, [])
    if state.server, do: stop(state.server)
  end

  defp orderly?(reason), do: reason in [:normal, :shutdown] or match?({:shutdown, _}, reason)

  defp stop(server) do
    Process.exit(server, :shutdown)

    receive do
      {:EXIT, ^server, _reason} -> :ok
    after
      @stop_ms ->
        Process.exit(server, :kill)
        receive do: ({:EXIT, ^server, _reason} -> :ok)
    end
  end

  defp now, do: System.monotonic_time(:millisecond)
end
