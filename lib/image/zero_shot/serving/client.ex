defmodule Image.ZeroShot.Serving.Client do
  @moduledoc false

  # The caller's side of a serving: finds or starts it, asks for room, waits for the answer.
  #
  # Everything runs in the process of the caller. Whatever becomes of the call, no message of it is
  # left in the caller's mailbox.

  alias Image.ZeroShot.{Error, Serving}
  alias Image.ZeroShot.Call.Options
  alias Image.ZeroShot.Picture.Preprocess
  alias Image.ZeroShot.Serving.{Admission, Batch, Directory, Gate, Keeper, Queue, Remote, Request}
  alias Image.ZeroShot.Serving.TextCache

  # A caller can meet a serving that is about to end; more often than this it is no accident.
  @attempts 5

  @typedoc """
  Makes the pixels and the prompts of a call, once it is admitted, for the model it will go to. They
  are wanted until the deadline of the call, and while the serving lives.
  """
  @type prepare ::
          (Serving.info(), Preprocess.wanted() ->
             {:ok, {pixels :: [binary()], prompts :: [String.t()]}} | {:error, Error.t()})

  # What is known of a call whose pictures another node decodes.
  @one_picture %{pictures: 1, decoded_here: 0, prompts: [], parts: 1}

  @typedoc """
  Rows of unit vectors in native f32, the indices of prompts that were cut, and whether one of those
  was cut for the first time.
  """
  @type embeddings :: %{
          images: binary(),
          texts: binary(),
          truncated: [non_neg_integer()],
          news: boolean()
        }

  @type answer :: {:ok, {Serving.info(), embeddings()}} | {:error, Error.t()}

  @doc """
  Embeds what `prepare` makes with the model that the options name.
  """
  @spec encode(Options.t(), prepare(), module(), Admission.needs()) :: answer()
  def encode(opts, prepare, runner, needs \\ @one_picture) do
    local = fn server, entry -> local(server, entry, opts.timeout, needs, prepare) end

    remote = fn key ->
      # What estimates the wait is loaded with the application.
      with :ok <- Directory.check_started(),
           :ok <- Admission.decoding_in_time(needs, opts.timeout),
           do: Remote.encode(key, opts.timeout, prepare)
    end

    with_serving(opts, runner, local, remote)
  end

  @doc """
  Does work that calls this serving several times, and has a place in it all the while.

  A serving of another node is asked for a place by each call.
  """
  @spec hold(Options.t(), module(), Admission.needs(), (... -> result)) ::
          result | {:error, Error.t()}
        when result: term()
  def hold(opts, runner, needs, work) do
    with {server, %{gate: gate} = entry} when is_pid(server) <- lookup(key(opts, runner)),
         {:ok, _run_ms} <- Admission.enter(entry, opts.timeout, needs) do
      try do
        work.()
      after
        Gate.leave(gate)
      end
    else
      {:error, error} -> {:error, error}
      _no_place_to_hold -> work.()
    end
  end

  @doc """
  Waits until the model is loaded, which begins now unless it has begun before.
  """
  @spec load(Options.t(), module()) :: {:ok, Serving.info()} | {:error, Error.t()}
  def load(opts, runner), do: with_serving(opts, runner, &loaded/2, &Remote.describe/1)

  @spec info(Options.t(), module()) :: {:ok, Serving.info()} | {:error, Error.t()}
  def info(opts, runner) do
    key = key(opts, runner)

    case {lookup(key), key} do
      {{:error, error}, _key} -> {:error, error}
      {{server, _entry}, _key} -> Serving.describe(server)
      {nil, {:name, _name}} -> Remote.describe(key)
      {nil, _model} -> unloaded()
    end
  end

  defp unloaded do
    if Directory.started?(),
      do: Error.error(:model_unloaded, "the model is not loaded"),
      else: Directory.not_started()
  end

  @doc """
  Stops a serving of this library's own supervisor, and waits until its memory is given back.
  """
  @spec unload(Options.t(), module()) :: :ok
  def unload(opts, runner) do
    with {server, _entry} <- Directory.lookup(key(opts, runner)), do: Serving.unload(server)
    :ok
  end

  defp key(%{serving: name}, _runner) when name != nil, do: {:name, name}
  defp key(opts, runner), do: {:model, runner.key(opts)}

  # What is not begun when a serving ends is begun anew with the next one.
  defp with_serving(opts, runner, local, remote, attempts \\ @attempts)

  defp with_serving(_opts, _runner, _local, _remote, 0),
    do: Error.error(:serving_down, "the process that keeps the model ended #{@attempts} times")

  defp with_serving(opts, runner, local, remote, attempts) do
    with :gone <- find(key(opts, runner), opts, runner, local, remote),
         do: with_serving(opts, runner, local, remote, attempts - 1)
  end

  defp find(key, opts, runner, local, remote) do
    case {lookup(key), key} do
      {{_server, %{error: %Error{} = error}}, _key} ->
        if Directory.others(key) == [], do: {:error, error}, else: remote.(key)

      {{:error, error}, _key} ->
        {:error, error}

      {{server, entry}, _key} ->
        local.(server, entry)

      {nil, {:name, _name}} ->
        remote.(key)

      {nil, _model} ->
        with server when is_pid(server) <- Directory.start(runner, key, opts),
             do: if(entry = Serving.entry(server), do: local.(server, entry), else: :gone)
    end
  end

  # A serving with a name is started again by its keeper when it ends. Another node's has its model.
  defp lookup(key) do
    with nil <- Directory.lookup(key),
         {:name, _name} <- key,
         [] <- Directory.others(key),
         server when is_pid(server) <- Keeper.server(key) do
      if entry = Serving.entry(server), do: {server, entry}
    else
      {:error, error} -> {:error, error}
      {server, %{} = entry} -> {server, entry}
      _none_here -> nil
    end
  end

  @doc """
  Runs the call on a local serving. Returns `:gone` if it terminated before the call started.
  """
  @spec local(pid(), Directory.entry(), timeout(), Admission.needs(), prepare()) ::
          answer() | :gone
  def local(server, entry, timeout, needs \\ @one_picture, prepare) do
    case Admission.enter(entry, timeout, needs) do
      {:ok, run_ms} ->
        try do
          admitted(server, entry, timeout, run_ms, prepare)
        after
          Gate.leave(entry.gate)
        end

      # In a place that it holds.
      :inside ->
        admitted(server, entry, timeout, 0, prepare)

      other ->
        other
    end
  end

  # The time of a call starts here: a first call waits for as long as its model takes to load.
  defp admitted(server, entry, timeout, run_ms, prepare) do
    with {:ok, info} <- loaded(server, entry),
         deadline = deadline(timeout),
         until = Admission.decode_until(deadline, timeout, run_ms),
         prepared = while_alive(server, &prepare.(info, {until, &1})),
         {:ok, {pixels, prompts}} <- Admission.judge(prepared, until, deadline),
         known = TextCache.fetch(entry.cache, prompts),
         new = prompts |> Enum.reject(&is_map_key(known, &1)) |> Enum.uniq(),
         {:ok, embeddings} <- request_all(server, info, deadline, pixels, new) do
      {:ok, {info, assemble(prompts, known, new, embeddings)}}
    else
      other -> Admission.told(other, entry.gate)
    end
  end

  @doc false
  # Hands the function a monitor of the process, and leaves no message of it behind.
  @spec while_alive(pid(), (reference() -> result)) :: result when result: term()
  def while_alive(process, work) do
    monitor = Process.monitor(process)

    try do
      work.(monitor)
    after
      Process.demonitor(monitor, [:flush])
    end
  end

  defp assemble(prompts, _known, prompts, {images, texts, cut}),
    do: %{images: images, texts: texts, truncated: cut, news: cut != []}

  defp assemble(prompts, known, new, {images, texts, cut}) do
    all = new |> Batch.rows(texts, cut) |> Enum.into(known)
    rows = Enum.map(prompts, &Map.fetch!(all, &1))

    %{
      images: images,
      texts: for({row, _cut} <- rows, into: <<>>, do: row),
      truncated: for({{_row, true}, i} <- Enum.with_index(rows), do: i),
      news: cut != []
    }
  end

  defp loaded(_server, %{info: %{} = info}), do: {:ok, info}
  defp loaded(_server, %{error: %Error{} = error}), do: {:error, error}
  defp loaded(server, _loading), do: Serving.await(server)

  @doc false
  @spec deadline(timeout()) :: integer() | :infinity
  def deadline(:infinity), do: :infinity
  def deadline(timeout), do: System.monotonic_time(:millisecond) + timeout

  # A long list of prompts goes in parts, between which other callers have their turn.
  defp request_all(server, info, deadline, pixels, prompts) do
    most = Queue.max_prompts(info.max_batch)

    case Enum.chunk_every(prompts, most) do
      [] -> request(server, deadline, pixels, [])
      [prompts] -> request(server, deadline, pixels, prompts)
      parts -> request_parts(server, deadline, pixels, parts, most)
    end
  end

  defp request_parts(server, deadline, pixels, parts, most) do
    parts
    |> Enum.with_index()
    |> Enum.reduce_while({:ok, {<<>>, [], []}}, fn {prompts, i}, {:ok, {images, texts, cut}} ->
      case request(server, deadline, if(i == 0, do: pixels, else: []), prompts) do
        {:ok, {more_images, more_texts, more_cut}} ->
          more_cut = Enum.map(more_cut, &(&1 + i * most))
          {:cont, {:ok, {images <> more_images, [texts, more_texts], cut ++ more_cut}}}

        {:error, error} ->
          {:halt, {:error, error}}
      end
    end)
    |> case do
      {:ok, {images, texts, cut}} -> {:ok, {images, IO.iodata_to_binary(texts), cut}}
      {:error, error} -> {:error, error}
    end
  end

  defp request(_server, _deadline, [], []), do: {:ok, {<<>>, <<>>, []}}

  defp request(server, deadline, pixels, prompts) do
    monitor = :erlang.monitor(:process, server, alias: :reply_demonitor)

    send(
      server,
      {:request,
       %Request{
         caller: self(),
         reply_to: monitor,
         deadline: deadline,
         since: System.monotonic_time(),
         pixels: pixels,
         prompts: prompts
       }}
    )

    receive do
      {^monitor, result} -> result
      {:DOWN, ^monitor, :process, _server, _reason} -> down()
    after
      remaining(deadline) -> give_up(monitor)
    end
  end

  # Without its alias nothing more can arrive.
  defp give_up(monitor) do
    Process.demonitor(monitor, [:flush])

    receive do
      {^monitor, result} -> result
    after
      0 -> Error.error(:timeout, "the time limit of the call was reached; raise :timeout")
    end
  end

  @doc false
  @spec remaining(integer() | :infinity) :: timeout()
  def remaining(:infinity), do: :infinity
  def remaining(deadline), do: max(deadline - System.monotonic_time(:millisecond), 0)

  defp down do
    Error.error(
      :serving_down,
      "the process that keeps the model ended during the call; try again"
    )
  end
end
