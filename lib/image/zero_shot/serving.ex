defmodule Image.ZeroShot.Serving do
  @moduledoc """
  The process that keeps a model and serves it to many callers at once.

  Every call of `Image.ZeroShot` goes through a serving; one is started for a model when it is
  first needed. An application that wants the model loaded before it takes requests, a name for it,
  or a model that other nodes of a cluster use, puts a serving into its own supervision tree:

      children = [
        {Image.ZeroShot.Serving, name: MyApp.Clip, repo: "openai/clip-vit-base-patch32"},
        MyAppWeb.Endpoint
      ]

      Image.ZeroShot.classify(photo, labels, serving: MyApp.Clip)

  The supervisor goes on to the next child when the model is loaded, and fails to start if it
  cannot be.

  ## Batches

  A serving that is idle runs a request at once. While it is busy, requests wait, and when the run
  ends all that wait go as one batch, up to `:max_batch`. Nothing ever waits for a timer. Pictures
  are decoded and resized by the caller's side, before they get here. Where a batch fails, its
  requests are run one by one, so that only the one at fault sees the error.

  ## Bounds

  At most `:max_queue` callers are inside a serving; the next one is refused with the reason
  `:overloaded`, before anything is decoded. A call takes at most its `:timeout`, which
  starts when the model is loaded. What waits for a caller that has ended, or whose time is over,
  is dropped before it is run. A refused call costs microseconds: try again later, or show the
  user that the service is busy.

  ## Clusters

  Servings of one name are known to all connected nodes. A call with `serving: name` takes the one
  of its own node, or else that of any other node: the picture is decoded and resized where the
  call is, and 150 KB (for ViT-B/32) travel. A node that only calls never loads libtorch,
  which is 108 MB of memory and 0.2 seconds; it needs 2 MB and some milliseconds a picture. A node
  that is lost in the middle of a call is replaced once by another, if there is one; else the call
  fails with the reason `:node_down`. All nodes have to run the same version of this library, or
  are told so with the reason `:incompatible`. See the guide "Phoenix".

  ## Options

    * `:name` - what `serving:` will find it by, an atom. Required
    * `:repo`, `:revision`, `:token`, `:offline`, `:hub_cache`, `:hub_endpoint`, `:device`,
      `:cache_dir`, `:torchscript` - the model, see `Image.ZeroShot`
    * `:max_queue` - the most callers at a time. Defaults to `512`
    * `:max_batch` - the most pictures of one run; 16 prompts count as one picture. Defaults to
      `16` for each of the `:threads` on a CPU, `256` at most and on a GPU. A smaller one has
      callers wait less for those before them, and fewer pictures a second
    * `:max_cached_prompts` - of how many prompts the embeddings are kept, so that a label that was
      asked for before costs nothing: 100 MB for the default of `50_000` and ViT-B/32. `0` keeps
      none
    * `:copies` - how many batches are run at the same time, on a thread each. The weights are in
      memory once, however many. Defaults to `1`
    * `:threads` - how many threads work on one batch, on a CPU: they divide its pictures among
      themselves, or work together where there are few. Defaults to the number of
      schedulers divided by `:copies`

  All but `:name` can be given to `Image.ZeroShot.load/1` and in the configuration of
  `:image_zero_shot` too.
  """

  use GenServer

  alias Image.ZeroShot.{Error, Model, Native, Options, Telemetry}
  alias Image.ZeroShot.Serving.{Batch, Directory, Gate, Queue, Request, TextCache}

  # How often the places of callers that were killed are taken back.
  @sweep_ms 1_000

  # How long the error of a load that failed at once waits for the caller who began it.
  @linger_ms 5_000

  @typedoc "A model in the form of its runner."
  @type model :: term()

  @typedoc """
  Facts about a model. The serving itself needs `:copies` and `:max_batch`; all else is for callers.
  """
  @type info :: %{
          required(:copies) => pos_integer(),
          required(:max_batch) => pos_integer(),
          optional(atom()) => term()
        }

  # What tells the model of one call from that of another.
  @doc false
  @callback key(opts :: term()) :: term()

  @doc false
  @callback open(opts :: term()) :: {:ok, model(), info()} | {:error, Error.t()}

  # Begins a run. Its result arrives as `{tag, {:ok, embeddings} | {:error, {reason, message}}}`.
  @doc false
  @callback encode(model(), tag :: reference(), pixels :: [binary()], prompts :: [String.t()]) ::
              :ok | {:error, Error.t()}

  # Waits until the memory is given back. Called by whoever unloads.
  @doc false
  @callback close(model()) :: :ok

  @doc """
  The specification of a serving with a name, for a supervisor.
  """
  @spec child_spec(keyword()) :: Supervisor.child_spec()
  def child_spec(opts) do
    %{id: {__MODULE__, opts[:name]}, start: {__MODULE__, :start_link, [opts]}}
  end

  @doc """
  Starts a serving with a name and returns when its model is loaded.
  """
  @spec start_link(keyword()) :: {:ok, pid()} | {:error, Error.t() | {:already_started, pid()}}
  def start_link(opts) do
    opts = Options.serving!(opts)

    with {:ok, server} <- start_link(Model, {:name, opts.name}, opts) do
      case await(server) do
        {:ok, _info} -> {:ok, server}
        {:error, error} -> {:error, error}
        :gone -> Error.error(:serving_down, "the serving ended while it was loading the model")
      end
    end
  end

  @doc false
  @spec start_link(module(), Directory.key(), map()) :: GenServer.on_start()
  def start_link(runner, key, opts) do
    GenServer.start_link(__MODULE__, {runner, key, opts}, name: Directory.via(key))
  end

  @doc false
  @spec await(pid()) :: {:ok, info()} | {:error, Error.t()} | :gone
  def await(server) do
    GenServer.call(server, :await, :infinity)
  catch
    :exit, _reason -> :gone
  end

  @doc false
  @spec entry(pid()) :: Directory.entry() | nil
  def entry(server) do
    GenServer.call(server, :entry)
  catch
    :exit, _reason -> nil
  end

  @doc false
  @spec describe(pid()) :: {:ok, map()} | {:error, Error.t()}
  def describe(server) do
    GenServer.call(server, :describe)
  catch
    :exit, _reason ->
      Error.error(:serving_down, "the process that keeps the model does not answer")
  end

  # Returns when the memory is given back.
  @doc false
  @spec unload(pid()) :: :ok
  def unload(server) do
    monitor = Process.monitor(server)
    {runner, model} = GenServer.call(server, :unload)
    receive do: ({:DOWN, ^monitor, :process, _server, _reason} -> :ok)
    if model, do: runner.close(model), else: :ok
  catch
    :exit, _reason -> :ok
  end

  @impl true
  def init({runner, key, opts}) do
    # A load that crashes is an error for those who wait for it, and no reason to try for ever.
    Process.flag(:trap_exit, true)
    gate = Gate.new(opts.max_queue)
    cache = TextCache.new(opts.max_cached_prompts)
    Directory.put(key, %{gate: gate, cache: cache, info: nil})
    Process.send_after(self(), :sweep, @sweep_ms)

    state = %{
      runner: runner,
      key: key,
      gate: gate,
      cache: cache,
      loading: load(runner, opts),
      error: nil,
      model: nil,
      info: nil,
      awaiting: [],
      queue: nil,
      running: %{},
      batches: %{count: 0, pictures: 0, prompts: 0, largest: 0, failed: 0}
    }

    {:ok, state}
  end

  # In a process of its own: this one stays there for those who ask, and for those who stop it.
  defp load(runner, opts) do
    Task.async(fn ->
      Telemetry.span(:load, %{repo: Map.get(opts, :repo)}, fn -> runner.open(opts) end)
    end)
  end

  @impl true
  def handle_call(:await, _from, %{error: error} = state) when error != nil,
    do: {:stop, :normal, {:error, error}, state}

  def handle_call(:await, from, %{info: nil} = state),
    do: {:noreply, %{state | awaiting: [from | state.awaiting]}}

  def handle_call(:await, _from, state), do: {:reply, {:ok, state.info}, state}

  def handle_call(:entry, _from, state),
    do: {:reply, %{gate: state.gate, cache: state.cache, info: state.info}, state}

  def handle_call(:describe, _from, state), do: {:reply, description(state), state}

  # Who unloads waits for the end of the run, and this process does not.
  def handle_call(:unload, _from, state) do
    Directory.remove(state.key)
    if state.loading, do: Task.shutdown(state.loading, :brutal_kill)
    unloaded = Error.error(:model_unloaded, "the model was unloaded; call again to load it anew")
    for from <- state.awaiting, do: GenServer.reply(from, unloaded)
    for request <- unanswered(state), do: answer(request, unloaded)
    {:stop, :normal, {state.runner, state.model}, %{state | model: nil}}
  end

  @impl true
  def handle_info({:request, %Request{} = request}, state),
    do: {:noreply, run(%{state | queue: Queue.push(state.queue, request)})}

  def handle_info({tag, result}, state) when is_map_key(state.running, tag) do
    {batch, running} = Map.pop!(state.running, tag)
    {:noreply, %{state | running: running} |> finish(batch, result) |> run()}
  end

  def handle_info({ref, {:ok, model, info}}, %{loading: %{ref: ref}} = state) do
    Process.demonitor(ref, [:flush])
    Directory.put(state.key, %{gate: state.gate, cache: state.cache, info: info})
    Directory.announce(state.key)
    for from <- state.awaiting, do: GenServer.reply(from, {:ok, info})
    queue = Queue.new(info.max_batch)
    {:noreply, %{state | loading: nil, model: model, info: info, awaiting: [], queue: queue}}
  end

  def handle_info({ref, {:error, error}}, %{loading: %{ref: ref}} = state),
    do: not_loaded(state, error)

  def handle_info({:DOWN, ref, :process, _loader, reason}, %{loading: %{ref: ref}} = state),
    do: crashed(state, reason)

  def handle_info({:EXIT, loader, reason}, %{loading: %{pid: loader}} = state)
      when reason != :normal,
      do: crashed(state, reason)

  # A load that crashed says so twice, by its monitor and by its link. To end for that would bring
  # the supervisor to try again, and again.
  def handle_info({:EXIT, _loader, _reason}, %{error: error} = state) when error != nil,
    do: {:noreply, state}

  # The registry has ended, and nobody finds this process any more.
  def handle_info({:EXIT, _process, reason}, state) when reason != :normal,
    do: {:stop, reason, state}

  def handle_info(:sweep, state) do
    Process.send_after(self(), :sweep, @sweep_ms)
    Gate.sweep(state.gate)
    {:noreply, if(state.queue, do: %{state | queue: Queue.sweep(state.queue)}, else: state)}
  end

  def handle_info(:linger_no_more, state), do: {:stop, :normal, state}

  def handle_info(_other, state), do: {:noreply, state}

  defp crashed(state, reason) do
    {:error, error} = Error.error(:internal, "loading failed: #{Exception.format_exit(reason)}")
    not_loaded(state, error)
  end

  # The next call starts another one; to end in order keeps the supervisor from doing so at once.
  defp not_loaded(state, error) do
    Directory.remove(state.key)
    for from <- state.awaiting, do: GenServer.reply(from, {:error, error})

    if state.awaiting == [] do
      Process.send_after(self(), :linger_no_more, @linger_ms)
      {:noreply, %{state | loading: nil, error: error}}
    else
      {:stop, :normal, state}
    end
  end

  # Starts runs while there is work and a copy of the model to do it.
  defp run(state) when map_size(state.running) >= state.info.copies, do: state

  defp run(state) do
    case Queue.pop_batch(state.queue) do
      {[], queue} -> %{state | queue: queue}
      {requests, queue} -> %{state | queue: queue} |> start(Batch.new(requests)) |> run()
    end
  end

  defp start(state, batch) do
    for request <- batch.requests do
      Telemetry.emit(:queue, %{duration: batch.started - request.since}, metadata(state))
    end

    tag = make_ref()

    case state.runner.encode(state.model, tag, batch.pixels, batch.prompts) do
      :ok -> %{state | running: Map.put(state.running, tag, batch)}
      {:error, error} -> finish(state, batch, {:error, {error.reason, error.message}})
    end
  end

  defp finish(state, batch, {:ok, {_images, texts, truncated} = embeddings}) do
    # Before the answers: who has one and asks again finds the prompts.
    for {prompt, row} <- Batch.rows(batch.prompts, texts, truncated),
        do: TextCache.put(state.cache, prompt, row)

    for {request, share} <- Batch.divide(batch, embeddings), do: answer(request, {:ok, share})

    finished(state, batch, :ok)
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

  defp description(%{info: nil}),
    do: Error.error(:model_unloaded, "the model is still being loaded")

  defp description(state) do
    queue = %{
      admitted: Gate.size(state.gate),
      max: state.gate.max,
      waiting: state.queue.length,
      running: map_size(state.running),
      dropped: state.queue.dropped
    }

    more = %{queue: queue, batches: state.batches, node: node()}
    {:ok, pixels} = Native.pixel_threads()
    more = Map.merge(more, %{pixels: pixels, text_cache: TextCache.stats(state.cache)})
    {:ok, Map.merge(state.info, more)}
  end

  defp metadata(state), do: %{model: state.info[:name], serving: Directory.name(state.key)}
end
