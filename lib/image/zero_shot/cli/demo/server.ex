defmodule Image.ZeroShot.CLI.Demo.Server do
  @moduledoc false

  # A small HTTP server on 127.0.0.1, for one page and its calls.
  #
  # Why not OTP's `:httpd`: it has no deadline for a client that sends a byte a second, reads every body before
  # a handler can refuse it, and is an application, `:inets`, that a project of the user's would have to list
  # since Elixir 1.15. With `:gen_tcp`, the grammar of requests is still the VM's, by `:erlang.decode_packet/3`;
  # its mode `packet: :http_bin` closes a socket whose line is too long, and no answer says so. The rest is short, and
  # every loop in it has a bound. One request a connection: on loopback a new one costs less than the state of an
  # old one.
  #
  # The listening socket belongs to the process that calls `start_link/3`. The acceptor, which a supervisor starts
  # again, only borrows it, so a killed acceptor closes nothing. Handlers are linked to the acceptor: they never
  # outlive the count that bounds them.

  alias Image.ZeroShot.CLI.Demo.{Budget, Connection}

  # How often the acceptor looks at its handlers while no client comes.
  @turn_ms 500

  # Clients beyond the limit get a 503 for as long as there are no more than so many times the limit.
  @refusals 2

  @type t :: %{port: :inet.port_number(), supervisor: pid(), listener: :inet.socket()}

  @typedoc """
    * `:connections` - how many are served at a time
    * `:head_ms`, `:body_ms` - how long a client may take to send the head of a request, and its body
    * `:life_ms` - how long a connection may take in all
    * `:head_bytes`, `:headers` - how long the head may be, and how many headers there may be in it
    * `:memory` - how many bytes of bodies there may be in all connections together
  """
  @type limits :: %{
          connections: pos_integer(),
          head_ms: pos_integer(),
          body_ms: pos_integer(),
          life_ms: pos_integer(),
          head_bytes: pos_integer(),
          headers: pos_integer(),
          memory: pos_integer()
        }

  @limits %{
    connections: 128,
    head_ms: 5_000,
    body_ms: 20_000,
    life_ms: 60_000,
    head_bytes: 16_384,
    headers: 64,
    memory: 256_000_000
  }

  @doc """
  Serves routes on a port of 127.0.0.1, where 0 is any that is free, until the calling process ends.
  """
  @spec start_link(Connection.routes(), :inet.port_number(), map()) ::
          {:ok, t()} | {:error, :inet.posix()}
  def start_link(routes, port, limits \\ %{}) do
    limits = Map.merge(@limits, limits)

    with {:ok, listener} <- :gen_tcp.listen(port, options(limits)) do
      {:ok, port} = :inet.port(listener)
      {:ok, supervisor} = supervise(fn -> accept(listener, routes, limits) end)
      {:ok, %{port: port, supervisor: supervisor, listener: listener}}
    end
  end

  @spec stop(t()) :: :ok
  def stop(server) do
    :ok = Supervisor.stop(server.supervisor)
    :gen_tcp.close(server.listener)
  end

  defp options(limits) do
    [
      :binary,
      ip: {127, 0, 0, 1},
      packet: :raw,
      active: false,
      reuseaddr: true,
      nodelay: true,
      backlog: 256,
      send_timeout: limits.head_ms,
      send_timeout_close: true
    ]
  end

  # The acceptor traps exits and waits in `:gen_tcp`, so it takes no order to end.
  defp supervise(accept) do
    acceptor = %{id: :acceptor, start: {Task, :start_link, [accept]}, shutdown: :brutal_kill}
    Supervisor.start_link([acceptor], strategy: :one_for_one, max_restarts: 100, max_seconds: 1)
  end

  defp accept(listener, routes, limits) do
    Process.flag(:trap_exit, true)
    context = %{routes: routes, limits: limits, budget: Budget.new(limits.memory)}
    loop(listener, context, %{})
  end

  defp loop(listener, context, handlers) do
    case :gen_tcp.accept(listener, @turn_ms) do
      {:ok, socket} ->
        handlers = tidy(handlers, context)
        loop(listener, context, handle(socket, context, handlers))

      {:error, :closed} ->
        exit(:shutdown)

      # No client came, or it left again.
      {:error, reason} when reason in [:timeout, :econnaborted] ->
        loop(listener, context, tidy(handlers, context))

      # No file descriptor is left: those of handlers come back.
      {:error, _reason} ->
        Process.sleep(@turn_ms)
        loop(listener, context, tidy(handlers, context))
    end
  end

  defp handle(socket, context, handlers) do
    count = map_size(handlers)
    most = context.limits.connections

    cond do
      count < most ->
        start(socket, handlers, &Connection.serve(&1, context))

      count < most * @refusals ->
        start(socket, handlers, &Connection.refuse/1)

      true ->
        :gen_tcp.close(socket)
        handlers
    end
  end

  defp start(socket, handlers, serve) do
    handler = spawn_link(fn -> receive do: (:yours -> serve.(socket)) end)

    with :ok <- :gen_tcp.controlling_process(socket, handler), do: send(handler, :yours)
    Map.put(handlers, handler, System.monotonic_time(:millisecond))
  end

  # Forgets handlers that have ended, and ends those that have lived too long: a killed process closes its socket.
  defp tidy(handlers, context) do
    handlers = reap(handlers, context.budget)
    oldest = System.monotonic_time(:millisecond) - context.limits.life_ms
    for {handler, since} <- handlers, since < oldest, do: Process.exit(handler, :kill)
    handlers
  end

  defp reap(handlers, budget) do
    receive do
      {:EXIT, process, _reason} when is_map_key(handlers, process) ->
        Budget.release(budget, process)
        handlers |> Map.delete(process) |> reap(budget)

      # The supervisor.
      {:EXIT, _process, reason} ->
        exit(reason)
    after
      0 -> handlers
    end
  end
end
