defmodule Image.ZeroShot.Serving.Remote do
  @moduledoc false

  # A lease of a serving of another node.
  #
  # A courier, a process beside the caller, talks to an attendant, a process beside the serving. The
  # attendant holds a lease there like any local caller; only when it has one does the caller decode
  # its picture, so that nothing travels that will be refused. Courier and attendant are linked:
  # when one terminates, so does the other, and what they wait for is dropped.
  #
  # The caller waits for the courier only, and kills it when the time is over. So not even a
  # blocked connection, on which a sender would wait, keeps a caller beyond its time.
  #
  # When a node or its serving is lost, the courier checks out a place on another node, once, and
  # sends the work there. The caller notices nothing.

  alias Image.ZeroShot.{Error, Serving}
  alias Image.ZeroShot.Call.{Callers, Deadline, Started}
  alias Image.ZeroShot.Serving.{Client, Directory, Handle, Lease, Local, Request}

  # Raise it whenever the messages or the requests change.
  @protocol 6

  # A remote serving answers from facts that it has, so it answers soon.
  @describe_ms 5_000

  # The first node, and one in its place.
  @attempts 2

  # What makes one model another.
  @identity [:name, :commit, :dim, :logit_scale, :logit_bias, :preprocessing]

  @spec checkout(Directory.key(), timeout(), non_neg_integer()) ::
          {:ok, Lease.t()} | {:error, Error.t()}
  def checkout(key, timeout, pictures) do
    case Enum.take(Directory.others(key), @attempts) do
      [] -> nowhere(key)
      servers -> checkout(servers, Deadline.new(timeout), self(), pictures)
    end
  end

  defp checkout([server | _] = servers, deadline, caller, pictures) do
    reply_to = :erlang.alias()
    callers = Callers.all()

    {courier, monitor} =
      spawn_monitor(fn -> courier(servers, deadline, {caller, callers}, reply_to, pictures) end)

    lease = %Lease{
      info: %{node: node(server)},
      deadline: deadline,
      decode_until: deadline,
      via: {:remote, courier, reply_to},
      monitor: monitor
    }

    case answer(lease) do
      {:lease, info, decode_ms} ->
        {:ok, %{lease | info: info, decode_until: sooner(deadline, decode_ms)}}

      failed ->
        checkin(lease)
        failed
    end
  end

  @spec run(Lease.t(), [binary()], [String.t()], Request.kind()) ::
          {:ok, Client.embeddings()} | {:error, Error.t()}
  def run(%Lease{via: {:remote, courier, _reply_to}} = lease, pixels, prompts, kind) do
    send(courier, {:run, lease.deadline, {pixels, prompts, kind}})
    answer(lease)
  end

  @spec checkin(Lease.t()) :: :ok
  def checkin(%Lease{via: {:remote, courier, reply_to}, monitor: monitor}) do
    send(courier, :checkin)
    Process.demonitor(monitor, [:flush])
    :erlang.unalias(reply_to)
    receive do: ({^reply_to, _answer} -> :ok), after: (0 -> :ok)
  end

  @spec describe(Directory.key()) :: {:ok, Serving.info()} | {:error, Error.t()}
  def describe(key) do
    case Directory.others(key) do
      [] -> nowhere(key)
      [server | _] -> describe_in_time(server)
    end
  end

  # In a process of its own, since the connection may be blocked.
  defp describe_in_time(server) do
    {helper, monitor} = spawn_monitor(fn -> exit({:shutdown, Handle.describe(server)}) end)

    receive do
      {:DOWN, ^monitor, :process, _helper, {:shutdown, answer}} -> answer
      {:DOWN, ^monitor, :process, _helper, reason} -> lost(server, reason)
    after
      @describe_ms ->
        Process.demonitor(monitor, [:flush])
        Process.exit(helper, :kill)
        Error.error(:timeout, "#{node(server)} did not answer within #{@describe_ms} ms")
    end
  end

  defp nowhere({:name, name}) do
    if Started.started?(), do: no_serving(name), else: Started.error()
  end

  defp no_serving(name) do
    Error.error(
      :serving_down,
      "no serving #{inspect(name)} on this node or a connected one; start " <>
        "{Image.ZeroShot.Serving, name: #{inspect(name)}} in the supervision tree of one"
    )
  end

  defp answer(%Lease{via: {:remote, courier, reply_to}, monitor: monitor} = lease) do
    receive do
      {^reply_to, answer} ->
        answer

      {:DOWN, ^monitor, :process, _courier, {:shutdown, %Error{} = error}} ->
        {:error, error}

      {:DOWN, ^monitor, :process, _courier, reason} ->
        Error.error(:internal, "the call to #{lease.info.node} failed: #{inspect(reason)}")
    after
      Deadline.remaining(lease.deadline) ->
        Process.exit(courier, :kill)

        Error.error(
          :timeout,
          "#{lease.info.node} did not answer within the time limit of the call; raise :timeout"
        )
    end
  end

  defp sooner(deadline, :infinity), do: deadline
  # An atom is more than any number.
  defp sooner(deadline, left), do: min(deadline, Deadline.new(left))

  # The courier

  defp courier(servers, deadline, {caller, callers}, reply_to, pictures) do
    Process.flag(:trap_exit, true)

    state = %{
      servers: servers,
      deadline: deadline,
      caller: Process.monitor(caller),
      callers: callers,
      pictures: pictures,
      attendant: nil,
      server: nil,
      info: nil
    }

    {state, decode_ms} = connect(state, nil)
    send(reply_to, {reply_to, {:lease, state.info, decode_ms}})
    attend_caller(state, reply_to)
  end

  # With no server left the error of the last one is how this process terminates.
  defp connect(%{servers: []}, {:error, error}), do: exit({:shutdown, error})

  defp connect(%{servers: [server | others], caller: caller} = state, _error) do
    # The attendant has another clock, so it gets the remaining time instead of the deadline.
    timeout = Deadline.remaining(state.deadline)
    call = %{timeout: timeout, pictures: state.pictures, callers: state.callers}
    arguments = [@protocol, server, self(), call]
    request = :erlang.spawn_request(node(server), __MODULE__, :attend, arguments, [:link])
    state = %{state | servers: others, server: server}

    receive do
      {:spawn_reply, ^request, :ok, attendant} -> admitted(%{state | attendant: attendant})
      {:spawn_reply, ^request, :error, reason} -> connect(state, lost(server, reason))
      {:DOWN, ^caller, :process, _caller, _reason} -> exit(:shutdown)
    end
  end

  defp admitted(%{attendant: attendant, caller: caller} = state) do
    receive do
      {:lease, ^attendant, info, decode_ms} ->
        if same_model?(state.info, info),
          do: {%{state | info: info}, decode_ms},
          else: exit({:shutdown, elem(gone(state.server), 1)})

      {:refused, ^attendant, error} ->
        refused(state, error)

      {:EXIT, ^attendant, reason} ->
        connect(state, lost(state.server, reason))

      {:DOWN, ^caller, :process, _caller, _reason} ->
        exit(:shutdown)
    end
  end

  defp refused(state, {:error, %Error{reason: reason}} = error)
       when reason in [:serving_down, :node_down],
       do: connect(state, error)

  defp refused(_state, {:error, error}), do: exit({:shutdown, error})

  # The pixels are those for the first model.
  defp same_model?(nil, _info), do: true
  defp same_model?(one, other), do: Map.take(one, @identity) == Map.take(other, @identity)

  defp attend_caller(%{attendant: attendant, caller: caller} = state, reply_to) do
    receive do
      {:run, deadline, work} ->
        {answer, state} = run_there(%{state | deadline: deadline}, work)
        send(reply_to, {reply_to, answer})
        attend_caller(state, reply_to)

      :checkin ->
        send(attendant, :checkin)

      # While the caller decodes.
      {:EXIT, ^attendant, reason} ->
        {state, _decode_ms} = connect(state, lost(state.server, reason))
        attend_caller(state, reply_to)

      {:DOWN, ^caller, :process, _caller, _reason} ->
        # With the reason :normal the attendant would live on.
        exit(:shutdown)
    end
  end

  defp run_there(%{attendant: attendant, caller: caller} = state, work) do
    send(attendant, {:run, Deadline.remaining(state.deadline), work})

    receive do
      {:answer, ^attendant, {:error, %Error{reason: :serving_down} = error}} ->
        {state, _decode_ms} = connect(state, {:error, error})
        run_there(state, work)

      {:answer, ^attendant, answer} ->
        {answer, state}

      {:EXIT, ^attendant, reason} ->
        {state, _decode_ms} = connect(state, lost(state.server, reason))
        run_there(state, work)

      {:DOWN, ^caller, :process, _caller, _reason} ->
        exit(:shutdown)
    end
  end

  # The attendant

  @doc false
  # Runs on the node of the serving. Its name, its arguments and how it refuses are for all versions.
  def attend(@protocol, server, courier, call) do
    Callers.work_for(call.callers)
    needs = %{pictures: call.pictures, decoded_here: 0, prompts: [], parts: 1}

    with entry when entry != nil <- Handle.entry(server),
         {:ok, lease} <- Local.checkout(server, entry, call.timeout, needs) do
      decode_ms = Deadline.remaining(lease.decode_until)
      send(courier, {:lease, self(), Map.put(lease.info, :node, node()), decode_ms})
      attend_courier(lease, server, courier)
    else
      {:error, error} -> send(courier, {:refused, self(), {:error, error}})
      _gone -> send(courier, {:refused, self(), gone(server)})
    end
  end

  def attend(protocol, server, courier, _call),
    do: send(courier, {:refused, self(), incompatible(server, protocol)})

  defp attend_courier(%Lease{monitor: monitor} = lease, server, courier) do
    receive do
      {:run, timeout, {pixels, prompts, kind}} ->
        answer =
          with {:error, %Error{reason: :serving_down}} <-
                 lease |> Lease.renew(timeout) |> Local.run(pixels, prompts, kind),
               do: gone(server)

        send(courier, {:answer, self(), answer})
        attend_courier(lease, server, courier)

      :checkin ->
        Local.checkin(lease)

      {:DOWN, ^monitor, :process, _server, _reason} ->
        exit({:shutdown, :serving_down})
    end
  end

  defp lost(server, reason) do
    case reason do
      {:undef, _stack} -> incompatible(server, @protocol)
      :noconnection -> node_down(server)
      {:shutdown, :serving_down} -> gone(server)
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
    Error.error(
      :serving_down,
      "the serving on #{node(server)} terminated during the call; try again"
    )
  end

  defp incompatible(server, protocol) do
    Error.error(
      :incompatible,
      "#{node(server)} runs another version of Image.ZeroShot (the caller speaks protocol " <>
        "#{protocol}); run the same version on all nodes"
    )
  end
end
