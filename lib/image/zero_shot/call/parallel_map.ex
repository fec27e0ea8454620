defmodule Image.ZeroShot.Call.ParallelMap do
  @moduledoc false

  # Maps an enumerable in parallel and in order, ahead of its consumer.
  #
  # `Task.async_stream/3` has two faults for this: while the oldest element is slow it starts more and
  # keeps their results without a bound, and a task that is killed takes the consumer with it. Here at
  # most a window of elements is in flight, however each of them ends.

  alias Image.ZeroShot.Call.Callers

  @typedoc "Runs on an element, in a process of its own."
  @type work :: (term() -> term())

  @typedoc "What became of an element: a value, or how its process failed."
  @type outcome ::
          {:ok, term()}
          | {:failed, {:error | :exit | :throw, reason :: term(), Exception.stacktrace()}}

  @doc """
  A lazy stream of `{element, outcome}`. `start` is called when the stream is first consumed.

  A list counts as so many elements, but never so much that a core goes without one.
  """
  @spec map(Enumerable.t(), (... -> {window :: pos_integer(), work()})) :: Enumerable.t()
  def map(enumerable, start) do
    Stream.transform(enumerable, fn -> open(start.()) end, &step/2, &rest/1, &close/1)
  end

  defp open({window, work}) do
    consumer = self()
    guard = spawn(fn -> guard(consumer) end)
    %{window: window, work: work, begun: :queue.new(), size: 0, guard: guard}
  end

  # Starts one and takes at most one, so the element that was taken is replaced while the consumer
  # deals with it. A slow enumerable does not hold back finished results.
  defp step(element, state) do
    begun = :queue.in(begin(element, state), state.begun)
    state = %{state | begun: begun, size: state.size + size(element, state)}
    patience = if state.size < state.window, do: 0, else: :infinity

    case take(state.begun, patience) do
      {{taken, _outcome} = result, begun} ->
        {[result], %{state | begun: begun, size: state.size - size(taken, state)}}

      nil ->
        {[], state}
    end
  end

  defp size([_ | _] = list, %{window: window}) do
    most = div(window, System.schedulers_online() + 1)
    list |> length() |> min(max(most, 1))
  end

  defp size(_one, _state), do: 1

  defp rest(state), do: {Stream.unfold(state.begun, &take(&1, :infinity)), state}

  # The guard takes the workers with it.
  defp close(state) do
    Process.exit(state.guard, :kill)

    for {monitor, _element} <- :queue.to_list(state.begun),
        do: Process.demonitor(monitor, [:flush])
  end

  # The result is the reason to exit: then there is one message, which goes with its monitor.
  defp begin(element, %{work: work, guard: guard}) do
    callers = Callers.all()

    {_worker, monitor} =
      spawn_monitor(fn ->
        follow(guard)
        Callers.work_for(callers)
        outcome = run(work, element)
        Process.unlink(guard)
        exit({__MODULE__, outcome})
      end)

    {monitor, element}
  end

  # The stream can be halted before a worker has begun.
  defp follow(guard) do
    Process.link(guard)
  rescue
    ErlangError -> exit(:shutdown)
  end

  defp run(work, element) do
    {:ok, work.(element)}
  catch
    kind, reason -> {:failed, {kind, reason, __STACKTRACE__}}
  end

  defp take(begun, patience) do
    with {:value, {monitor, element}} <- :queue.peek(begun) do
      receive do
        {:DOWN, ^monitor, :process, _worker, {__MODULE__, outcome}} ->
          {{element, outcome}, :queue.drop(begun)}

        {:DOWN, ^monitor, :process, _worker, reason} ->
          {{element, {:failed, {:exit, reason, []}}}, :queue.drop(begun)}
      after
        patience -> nil
      end
    else
      :empty -> nil
    end
  end

  # Links between workers and consumer would end the one with the other, or leave messages.
  defp guard(consumer) do
    Process.flag(:trap_exit, true)
    monitor = Process.monitor(consumer)
    guard_until(monitor)
  end

  defp guard_until(monitor) do
    receive do
      {:DOWN, ^monitor, :process, _consumer, _reason} -> exit(:shutdown)
      _end_of_a_worker -> guard_until(monitor)
    end
  end
end
