defmodule Image.ZeroShot.Picture.FileQueue do
  @moduledoc false

  # Runs what may block on a file system, in processes of their own, a few at a time.
  #
  # A read of a mount that hangs, or of `/proc/kmsg`, ends when it likes: no exit reaches a process that
  # waits in the system. So the caller must not be that process, and there must be few of them. Each keeps
  # one of the VM's threads for files; two of those threads always stay free for everything else.

  use GenServer

  alias Image.ZeroShot.Call.{Deadline, Started}
  alias Image.ZeroShot.Error

  @most_waiting 1_000

  @type work :: (... -> {:ok, term()} | {:error, Error.t()})

  @spec start_link(keyword()) :: GenServer.on_start()
  def start_link(_opts), do: GenServer.start_link(__MODULE__, [], name: __MODULE__)

  @doc """
  Runs `work` and returns its result, or a `:timeout` if there is none after so many milliseconds.
  """
  @spec run(work(), timeout()) :: {:ok, term()} | {:error, Error.t()}
  def run(work, timeout) do
    case Process.whereis(__MODULE__) do
      nil -> Started.error()
      queue -> ask(queue, work, timeout)
    end
  end

  # The alias drops an answer that comes after the call has given up.
  defp ask(queue, work, timeout) do
    reply_to = :erlang.monitor(:process, queue, alias: :reply_demonitor)
    send(queue, {:run, {work, reply_to, self(), Deadline.new(timeout)}})

    receive do
      {^reply_to, result} -> result
      {:DOWN, ^reply_to, :process, ^queue, _reason} -> Started.error()
    after
      timeout -> give_up(reply_to, timeout)
    end
  end

  defp give_up(reply_to, timeout) do
    Process.demonitor(reply_to, [:flush])

    receive do
      {^reply_to, result} -> result
    after
      0 ->
        Error.error(
          :timeout,
          "the file was not read within the :timeout of #{timeout} ms; check whether its file " <>
            "system answers, or raise :timeout"
        )
    end
  end

  @impl true
  def init(_opts) do
    most = max(:erlang.system_info(:dirty_io_schedulers) - 2, 1)
    {:ok, %{most: most, running: %{}, waiting: :queue.new()}}
  end

  @impl true
  def handle_info({:run, job}, state), do: {:noreply, state |> push(job) |> start()}

  def handle_info({:DOWN, monitor, :process, _reader, reason}, state) do
    {reply_to, running} = Map.pop(state.running, monitor)
    # A process that ends normally has answered.
    if reply_to && reason != :normal, do: answer(reply_to, crashed(reason))
    {:noreply, start(%{state | running: running})}
  end

  def handle_info(_other, state), do: {:noreply, state}

  defp push(state, {_work, reply_to, _caller, _deadline} = job) do
    waiting =
      if :queue.len(state.waiting) < @most_waiting,
        do: state.waiting,
        else: :queue.filter(&wanted?/1, state.waiting)

    if :queue.len(waiting) < @most_waiting do
      %{state | waiting: :queue.in(job, waiting)}
    else
      answer(reply_to, full())
      %{state | waiting: waiting}
    end
  end

  defp start(state) when map_size(state.running) == state.most, do: state

  defp start(state) do
    case :queue.out(state.waiting) do
      {:empty, _none} -> state
      {{:value, job}, waiting} -> start(begin(%{state | waiting: waiting}, job))
    end
  end

  defp begin(state, {work, reply_to, _caller, _deadline} = job) do
    if wanted?(job) do
      {_reader, monitor} = spawn_monitor(fn -> answer(reply_to, work.()) end)
      %{state | running: Map.put(state.running, monitor, reply_to)}
    else
      state
    end
  end

  defp wanted?({_work, _reply_to, caller, deadline}),
    do: Process.alive?(caller) and Deadline.remaining(deadline) > 0

  defp answer(reply_to, result), do: send(reply_to, {reply_to, result})

  defp crashed(reason),
    do: Error.error(:internal, "reading a file failed: #{Exception.format_exit(reason)}")

  defp full do
    Error.error(
      :overloaded,
      "#{@most_waiting} pictures wait for their files to be read; check whether their file system " <>
        "answers, and try again later"
    )
  end
end
