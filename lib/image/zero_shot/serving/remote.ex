defmodule Image.ZeroShot.Serving.Remote do
  @moduledoc false

  # A serving of another node.
  #
  # A courier, a process beside the caller, talks to an attendant, a process beside the serving,
  # which is to it a caller like any other: it asks for room, and only then tells what kind of
  # pixels the model takes, so that nothing travels that will be refused. The two are linked:
  # whichever ends, the other does, and what waits for them is dropped.
  #
  # The caller waits for the courier alone, and kills it when the time is over. So not even a
  # connection that is blocked, on which a sender would wait, keeps a caller beyond its time.

  alias Image.ZeroShot.{Error, Serving}
  alias Image.ZeroShot.Serving.{Client, Directory}

  # Raise it whenever the messages or the requests change.
  @protocol 1

  # A remote serving is asked for its facts, which it knows.
  @describe_ms 5_000

  # The start, and once more where a node was lost.
  @attempts 2

  @spec encode(Directory.key(), timeout(), Client.prepare()) :: Client.answer()
  def encode(key, timeout, prepare) do
    # The attendant's clock is another: it is told how much time there is.
    deadline = if timeout == :infinity, do: :infinity, else: now() + timeout
    attempt(key, deadline, prepare, Enum.take(Directory.others(key), @attempts), nil)
  end

  defp attempt(key, _deadline, _prepare, [], nil), do: nowhere(key)
  defp attempt(_key, _deadline, _prepare, [], error), do: {:error, error}

  defp attempt(key, deadline, prepare, [server | others], _error) do
    caller = self()

    case in_time(server, deadline, fn -> courier(caller, server, deadline, prepare) end) do
      {:error, %Error{reason: reason} = error} when reason in [:node_down, :serving_down] ->
        attempt(key, deadline, prepare, others, error)

      answer ->
        answer
    end
  end

  @spec describe(Directory.key()) :: {:ok, Serving.info()} | {:error, Error.t()}
  def describe(key) do
    case Directory.others(key) do
      [] -> nowhere(key)
      [server | _] -> in_time(server, now() + @describe_ms, fn -> Serving.describe(server) end)
    end
  end

  defp nowhere({:name, name}) do
    if Directory.started?(), do: no_serving(name), else: Directory.not_started()
  end

  defp no_serving(name) do
    Error.error(
      :serving_down,
      "there is no serving #{inspect(name)} on this node or on one that is connected; start " <>
        "{Image.ZeroShot.Serving, name: #{inspect(name)}} in the supervision tree of one"
    )
  end

  defp in_time(server, deadline, run) do
    {courier, monitor} = spawn_monitor(fn -> exit({:answer, run.()}) end)

    receive do
      {:DOWN, ^monitor, :process, _courier, {:answer, answer}} ->
        answer

      {:DOWN, ^monitor, :process, _courier, reason} ->
        Error.error(:internal, "the call to #{node(server)} failed: #{inspect(reason)}")
    after
      Client.remaining(deadline) ->
        Process.demonitor(monitor, [:flush])
        Process.exit(courier, :kill)

        Error.error(
          :timeout,
          "#{node(server)} did not answer within the time limit of the call; raise :timeout"
        )
    end
  end

  defp courier(caller, server, deadline, prepare) do
    Process.flag(:trap_exit, true)
    caller = Process.monitor(caller)
    arguments = [@protocol, server, self(), Client.remaining(deadline)]
    request = :erlang.spawn_request(node(server), __MODULE__, :attend, arguments, [:link])
    call = %{caller: caller, request: request, server: server, attendant: nil}
    courier_loop(call, deadline, prepare)
  end

  defp courier_loop(call, deadline, prepare) do
    %{caller: caller, request: request, server: server, attendant: attendant} = call

    receive do
      {:prepare, ^attendant, info} ->
        until = sooner(deadline, Map.get(info, :prepare_ms, :infinity))
        # The attendant ends when its serving does, and when the connection is lost.
        prepared = Client.while_alive(attendant, &prepare.(info, {until, &1}))
        send(attendant, {:prepared, prepared})
        courier_loop(call, deadline, prepare)

      {:answer, answer} ->
        answer

      # Comes before all that the attendant sends.
      {:spawn_reply, ^request, :ok, attendant} ->
        courier_loop(%{call | attendant: attendant}, deadline, prepare)

      {:spawn_reply, ^request, :error, reason} ->
        lost(server, reason)

      # Its answer came before, if there was one. Helpers of `prepare` may be linked, and end too.
      {:EXIT, ^attendant, reason} ->
        lost(server, reason)

      {:DOWN, ^caller, :process, _caller, _reason} ->
        # With the reason :normal the attendant would live on.
        exit(:shutdown)
    end
  end

  defp sooner(deadline, :infinity), do: deadline
  # No number is more than the atom :infinity.
  defp sooner(deadline, left), do: min(deadline, now() + left)

  @doc false
  # Runs on the node of the serving. Its name and arguments are for all versions.
  def attend(@protocol, server, courier, timeout) do
    prepare = fn info, {until, monitor} ->
      # Without what the model will take.
      send(courier, {:prepare, self(), Map.put(info, :prepare_ms, Client.remaining(until))})

      receive do
        {:prepared, prepared} -> prepared
        {:DOWN, ^monitor, :process, _server, _reason} -> gone(server)
      end
    end

    answer =
      case Serving.entry(server) do
        nil -> :gone
        entry -> Client.local(server, entry, timeout, prepare)
      end

    send(courier, {:answer, with(:gone <- answer, do: gone(server))})
  end

  def attend(protocol, server, courier, _timeout),
    do: send(courier, {:answer, incompatible(server, protocol)})

  defp lost(server, reason) do
    case reason do
      {:undef, _stack} -> incompatible(server, @protocol)
      :noconnection -> node_down(server)
      :noproc -> gone(server)
      other -> Error.error(:internal, "the call to #{node(server)} failed: #{inspect(other)}")
    end
  end

  defp node_down(server) do
    Error.error(
      :node_down,
      "the connection to #{node(server)} was lost during the call; try again"
    )
  end

  defp gone(server) do
    Error.error(:serving_down, "the serving on #{node(server)} ended during the call; try again")
  end

  defp incompatible(server, protocol) do
    Error.error(
      :incompatible,
      "#{node(server)} runs another version of Image.ZeroShot (the caller speaks protocol " <>
        "#{protocol}); run the same version on all nodes"
    )
  end

  defp now, do: System.monotonic_time(:millisecond)
end
