defmodule Image.ZeroShot.Serving.Server do
  @moduledoc false

  # The process that holds a model and runs requests in batches.

  use GenServer

  require Logger

  alias Image.ZeroShot.{Error, Native, Serving, Telemetry}

  alias Image.ZeroShot.Serving.{
    Batch,
    Directory,
    Gate,
    Lease,
    Load,
    Pace,
    Queue,
    Request,
    Runners
  }

  alias Image.ZeroShot.Call.Started
  alias Image.ZeroShot.Serving.TextCache

  # How often the places of killed callers are freed.
  @sweep_ms 1_000

  # How long the error of a load that failed at once waits for the caller who began it.
  @linger_ms 5_000

  @doc """
  Starts a server. It reports each load to its keeper, if it has one. The keeper passes the facts about
  the model if its name has had this model before.
  """
  @spec start_link(Directory.key(), map(), {pid() | nil, Serving.info() | nil}) ::
          GenServer.on_start()
  def start_link(key, opts, {keeper, facts} \\ {nil, nil}) do
    arguments = {key, opts, keeper, facts}
    GenServer.start_link(__MODULE__, arguments, name: Directory.via(key))
  end

  @doc """
  Starts a serving under the supervisor of this library, unless another caller was faster. Returns
  `:gone` if that one's serving has terminated already.
  """
  @spec start_child(Directory.key(), map()) :: pid() | :gone | {:error, Error.t()}
  def start_child(key, opts) do
    spec = %{id: key, start: {__MODULE__, :start_or_ignore, [key, opts]}, restart: :transient}

    case DynamicSupervisor.start_child(Directory.supervisor(), spec) do
      {:ok, server} -> server
      :ignore -> with({server, _entry} <- Directory.find(key), do: server) || :gone
      # The registry ended before the supervisor did.
      {:error, _reason} -> Started.error()
    end
  catch
    # The exit shows all arguments of the call, options included.
    :exit, _reason -> Started.error()
  end

  @doc false
  # When a serving is killed, a caller may start the next one before the supervisor hears of the end. The
  # supervisor takes an error for a failed restart and tries again at once, as long as the next one lives.
  @spec start_or_ignore(Directory.key(), map()) :: GenServer.on_start()
  def start_or_ignore(key, opts) do
    with {:error, {:already_started, _server}} <- start_link(key, opts), do: :ignore
  end

  @impl true
  def init({key, opts, keeper, facts}) do
    # A crash while loading is reported to the waiting callers; it must not end this process.
    Process.flag(:trap_exit, true)
    Process.send_after(self(), :sweep, @sweep_ms)

    state = %{
      runner: Runners.of(opts),
      key: key,
      opts: opts,
      keeper: keeper,
      gate: Gate.new(opts.max_queue),
      cache: TextCache.new(opts.max_cached_prompts),
      load: Load.start(%Load{facts: facts}, opts),
      model: nil,
      info: nil,
      awaiting: [],
      queue: nil,
      running: %{},
      pace: %Pace{},
      batches: %{count: 0, pictures: 0, prompts: 0, largest: 0, failed: 0}
    }

    Directory.put(key, entry(state))
    {:ok, state}
  end

  defp entry(state),
    do: %{gate: state.gate, cache: state.cache, info: state.info, error: state.load.error}

  @impl true
  def handle_call(:await, _from, %{info: info} = state) when info != nil,
    do: {:reply, {:ok, info}, state}

  def handle_call(:await, from, %{load: %{error: nil}} = state),
    do: {:noreply, %{state | awaiting: [from | state.awaiting]}}

  def handle_call(:await, _from, %{load: %{facts: nil, error: error}} = state),
    do: {:stop, :normal, {:error, error}, state}

  def handle_call(:await, _from, state), do: {:reply, {:error, state.load.error}, state}
  def handle_call(:entry, _from, state), do: {:reply, entry(state), state}
  def handle_call(:describe, _from, state), do: {:reply, description(state), state}

  # The caller of unload waits for the end of the run; this process does not.
  def handle_call(:unload, _from, state) do
    Directory.remove(state.key)
    Load.stop(state.load)
    unloaded = Lease.unloaded()
    for from <- state.awaiting, do: GenServer.reply(from, unloaded)
    for request <- unanswered(state), do: answer(request, unloaded)
    {:stop, :normal, {state.runner, state.model}, %{state | model: nil}}
  end

  @impl true
  # An idle serving never refuses.
  def handle_info({:request, %Request{} = request}, state) do
    if busy?(state) and late?(state, request) do
      refuse(request)
      {:noreply, state}
    else
      {:noreply, run(%{state | queue: Queue.push(state.queue, request)})}
    end
  end

  # Sent by a caller that found these prompts in the table to be evicted next.
  def handle_info({:keep_prompts, prompts}, state) when is_list(prompts) do
    TextCache.move(state.cache, prompts)
    {:noreply, state}
  end

  def handle_info({tag, result}, state) when is_map_key(state.running, tag) do
    {batch, running} = Map.pop!(state.running, tag)
    {:noreply, %{state | running: running} |> finish(batch, result) |> refuse_late() |> run()}
  end

  def handle_info({ref, {:ok, model, info}}, %{load: %{task: %{ref: ref}}} = state) do
    Process.demonitor(ref, [:flush])
    {:noreply, loaded(state, model, info)}
  end

  def handle_info({ref, {:error, error}}, %{load: %{task: %{ref: ref}}} = state) do
    Process.demonitor(ref, [:flush])
    not_loaded(state, error)
  end

  def handle_info({:DOWN, ref, :process, pid, reason}, %{load: %{task: %{ref: ref}}} = state) do
    Process.unlink(pid)
    receive do: ({:EXIT, ^pid, _reason} -> :ok), after: (0 -> :ok)
    crashed(state, reason)
  end

  # A crash while loading arrives twice, by the monitor and by the link.
  def handle_info({:EXIT, loader, reason}, %{load: %{task: %{pid: loader}}} = state)
      when reason != :normal do
    Process.demonitor(state.load.task.ref, [:flush])
    crashed(state, reason)
  end

  def handle_info({:EXIT, _loader, _reason}, %{load: %{facts: nil, error: error}} = state)
      when error != nil,
      do: {:noreply, state}

  # The registry has ended, so no caller finds this process any more.
  def handle_info({:EXIT, _process, reason}, state) when reason != :normal,
    do: {:stop, reason, state}

  def handle_info(:load_again, state),
    do: {:noreply, %{state | load: Load.start(state.load, state.opts)}}

  def handle_info(:sweep, state) do
    Process.send_after(self(), :sweep, @sweep_ms)
    Gate.sweep(state.gate)
    {:noreply, if(state.queue, do: %{state | queue: Queue.sweep(state.queue)}, else: state)}
  end

  def handle_info(:linger_no_more, state), do: {:stop, :normal, state}

  def handle_info(_other, state), do: {:noreply, state}

  defp loaded(state, model, info) do
    if state.load.error, do: Logger.info("#{title(state)} is loaded again")
    load = Load.done(state.load, info)
    state = %{state | load: load, model: model, info: info, queue: Queue.new(info.max_batch)}
    Directory.put(state.key, entry(state))
    Directory.announce(state.key)
    tell(state, {:ok, info})
  end

  defp crashed(state, reason) do
    {:error, error} = Error.error(:internal, "loading failed: #{Exception.format_exit(reason)}")
    not_loaded(state, error)
  end

  defp not_loaded(state, error) do
    case Load.failed(state.load, error) do
      {pause, load} -> {:noreply, load_again(%{state | load: load}, pause)}
      :over -> give_up(%{state | load: %{state.load | task: nil, error: error}})
    end
  end

  defp load_again(%{load: %{error: error}} = state, pause) do
    Logger.error(
      "#{title(state)} cannot be loaded again: #{error.message}. Calls get this error " <>
        "(#{inspect(error.reason)}); the next try is in #{div(pause, 1000)} s"
    )

    Process.send_after(self(), :load_again, pause)
    Directory.put(state.key, entry(state))
    tell(state, {:error, error})
  end

  # The next call starts another server. A normal exit keeps the supervisor from doing so at once.
  defp give_up(%{awaiting: awaiting, load: %{error: error}} = state) do
    Directory.remove(state.key)
    state = tell(state, {:error, error})

    if awaiting == [] do
      Process.send_after(self(), :linger_no_more, @linger_ms)
      {:noreply, state}
    else
      {:stop, :normal, state}
    end
  end

  # Reports how a load ended to all who wait for it.
  defp tell(state, outcome) do
    for from <- state.awaiting, do: GenServer.reply(from, outcome)
    if state.keeper, do: send(state.keeper, {:loaded, self(), outcome})
    %{state | awaiting: []}
  end

  defp title(%{key: {:name, name}} = state),
    do: "the model #{Runners.title(state.opts)} of the serving #{inspect(name)}"

  defp title(state), do: "the model #{Runners.title(state.opts)}"

  # Starts runs while there is work and a copy of the model to do it.
  defp run(state) do
    if busy?(state) do
      state
    else
      case Queue.pop_batch(state.queue, state.pace) do
        {[], queue} -> %{state | queue: queue}
        {requests, queue} -> %{state | queue: queue} |> start(Batch.new(requests)) |> run()
      end
    end
  end

  defp busy?(state), do: map_size(state.running) >= state.info.concurrency

  # Refuses waiting requests that would miss their deadline, before they run.
  defp refuse_late(state) do
    rates = Pace.rates(state.pace)
    {late, queue} = Queue.take_late(state.queue, free_in(state, rates), state.info, rates)
    Enum.each(late, &refuse/1)
    %{state | queue: queue}
  end

  defp late?(state, request) do
    rates = Pace.rates(state.pace)
    Queue.late?(state.queue, request, free_in(state, rates), state.info, rates)
  end

  defp refuse(request) do
    message =
      "other calls wait for the model, and this one would not be in time; " <>
        "try again later or raise :timeout"

    answer(request, Error.error(:overloaded, message))
  end

  # How many milliseconds until the next run can begin.
  defp free_in(state, {prompt, _batch, _work}) do
    if busy?(state) do
      now = System.monotonic_time()

      state.running
      |> Map.values()
      |> Enum.map(fn batch ->
        elapsed = System.convert_time_unit(now - batch.started, :native, :nanosecond)
        max(Batch.work(batch) * prompt - elapsed, 0)
      end)
      |> Enum.min()
      |> div(1_000_000)
    else
      0
    end
  end

  defp start(state, batch) do
    for request <- batch.requests do
      Telemetry.emit(:queue, %{duration: batch.started - request.since}, metadata(state))
    end

    tag = make_ref()

    case run_batch(state, tag, batch) do
      :ok -> %{state | running: Map.put(state.running, tag, batch)}
      {:error, error} -> finish(state, batch, {:error, {error.reason, error.message}})
    end
  end

  defp run_batch(%{runner: runner, model: model}, tag, %{kind: :embed} = batch),
    do: runner.encode(model, tag, batch.pixels, batch.prompts)

  defp run_batch(%{runner: runner, model: model}, tag, %{kind: :parts} = batch),
    do: runner.parts(model, tag, batch.pixels, batch.prompts)

  defp finish(state, batch, {:ok, {_images, texts, truncated} = embeddings}) do
    # Before the answers: who has one and asks again finds the prompts.
    for {prompt, row} <- Batch.rows(batch.prompts, texts, truncated),
        do: TextCache.put(state.cache, prompt, row)

    for {request, share} <- Batch.divide(batch, embeddings), do: answer(request, {:ok, share})

    state |> keep_pace(batch) |> finished(batch, :ok)
  end

  defp finish(state, %{requests: [request]} = batch, error) do
    answer(request, Error.from_native(error))
    finished(state, batch, :error)
  end

  # One bad request must not fail the others.
  defp finish(state, batch, _error) do
    %{state | queue: Queue.push_back_alone(state.queue, batch.requests)}
    |> finished(batch, :error)
  end

  # The first batch pays for what libtorch sets up, and says nothing of later ones.
  defp keep_pace(%{batches: %{count: 0}} = state, _batch), do: state

  # A batch of parts takes longer, so its time says nothing about other batches.
  defp keep_pace(state, %{kind: :parts}), do: state

  defp keep_pace(state, batch) do
    took = System.convert_time_unit(System.monotonic_time() - batch.started, :native, :nanosecond)
    pace = Pace.record(state.pace, Batch.work(batch), took, state.info.max_batch)
    Gate.put_rates(state.gate, Pace.rates(pace))
    %{state | pace: pace}
  end

  defp finished(state, batch, result) do
    {pictures, prompts} = {length(batch.pixels), length(batch.prompts)}

    Telemetry.emit(
      :batch,
      %{
        duration: System.monotonic_time() - batch.started,
        requests: length(batch.requests),
        pictures: pictures,
        prompts: prompts
      },
      Map.put(metadata(state), :result, result)
    )

    counts = state.batches

    %{
      state
      | batches: %{
          count: counts.count + 1,
          pictures: counts.pictures + pictures,
          prompts: counts.prompts + prompts,
          largest: max(counts.largest, pictures),
          failed: counts.failed + if(result == :error, do: 1, else: 0)
        }
    }
  end

  defp answer(%Request{reply_to: alias}, result), do: send(alias, {alias, result})

  defp unanswered(state) do
    running = state.running |> Map.values() |> Enum.flat_map(& &1.requests)
    if state.queue, do: running ++ Queue.to_list(state.queue), else: running
  end

  # Before the first load there is nothing to tell.
  defp description(%{load: %{facts: nil}}),
    do: Error.error(:model_unloaded, "the model is still being loaded")

  defp description(state) do
    queue = %{
      admitted: Gate.size(state.gate),
      max: state.gate.max,
      waiting: if(state.queue, do: state.queue.length, else: 0),
      running: map_size(state.running),
      dropped: if(state.queue, do: state.queue.dropped, else: 0)
    }

    {:ok, decoding} = Native.pixel_threads()
    more = %{queue: queue, batches: state.batches, decoding: decoding, node: node()}
    more = Map.put(more, :text_cache, TextCache.stats(state.cache))
    {:ok, state.load.facts |> Map.merge(more) |> Map.merge(Load.describe(state.load))}
  end

  defp metadata(state), do: %{model: state.info[:name], serving: Directory.name(state.key)}
end
