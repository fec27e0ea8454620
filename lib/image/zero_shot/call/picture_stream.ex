defmodule Image.ZeroShot.Call.PictureStream do
  @moduledoc false

  # Streams any number of pictures. Each goes through the serving like any other caller's picture, and
  # the serving makes the batches. This module only bounds how many are in flight.

  alias Image.ZeroShot.{Error, Telemetry}
  alias Image.ZeroShot.Call.{Argument, Deadline, Options, ParallelMap}
  alias Image.ZeroShot.Serving.Client

  # How long to wait where a serving is full, at first and at most.
  @pause_ms 20
  @longest_pause_ms 500

  @typedoc "Turns pictures into results, one for each."
  @type work :: ([term(), ...] -> [result(), ...])

  @type result :: {:ok, term()} | {:error, Error.t()}

  @doc """
  Each picture with what came of it.

  `groups` makes a stream of lists, of pictures that are worked on together. `start` is called when the
  stream is first consumed, and returns the work. `own` are the options that no other call has.
  """
  @spec stream(
          Enumerable.t(),
          (Enumerable.t() -> Enumerable.t()),
          (... -> {:ok, work()} | {:error, Error.t()}),
          Options.t(),
          Options.t()
        ) :: Enumerable.t()
  def stream(pictures, groups, start, opts, own) do
    pictures
    |> Argument.enumerable!("pictures")
    |> groups.()
    |> ParallelMap.map(fn -> start(start, opts, own.window) end)
    |> Stream.flat_map(&told(&1, opts))
    |> report(own.progress, if(is_list(pictures), do: length(pictures)))
  end

  @doc """
  Groups of one.
  """
  @spec alone(Enumerable.t()) :: Enumerable.t()
  def alone(pictures), do: Stream.map(pictures, &[&1])

  # A failure here is one for every picture, so it is raised.
  defp start(start, opts, window) do
    work = bang!(start.())
    _info = bang!(Client.load(opts))
    info = bang!(Client.info(opts))
    {window || window(info, System.schedulers_online()), &patiently(opts, fn -> work.(&1) end)}
  end

  @doc """
  Returns how many pictures may be in flight: a batch that runs, one that waits, and those being read
  and resized, but never so many that other callers find the serving full.
  """
  @spec window(map(), pos_integer()) :: pos_integer()
  def window(%{max_batch: max_batch, concurrency: concurrency, queue: %{max: max}}, cores) do
    wanted = 2 * max_batch * concurrency + cores
    if max == :infinity, do: wanted, else: wanted |> min(div(max * 3, 4)) |> max(1)
  end

  @doc """
  Calls again while the serving is full, for as long as the call may take.
  """
  @spec patiently(Options.t(), (... -> [result()])) :: [result()]
  def patiently(%{timeout: timeout}, call),
    do: retry(call, @pause_ms, Deadline.new(timeout))

  # A full serving refuses all pictures of a group, so the first result tells.
  defp retry(call, pause, deadline) do
    with [{:error, %Error{reason: :overloaded}} | _] = refused <- call.() do
      if Deadline.remaining(deadline) > pause do
        Process.sleep(pause)
        retry(call, min(2 * pause, @longest_pause_ms), deadline)
      else
        refused
      end
    end
  end

  defp told({pictures, {:ok, results}}, opts),
    do:
      for({picture, result} <- Enum.zip(pictures, results), do: {picture, counted(result, opts)})

  defp told({pictures, {:failed, {kind, reason, stacktrace}}}, opts) do
    case Exception.normalize(kind, reason, stacktrace) do
      # A mistake in the program, as in every other call.
      %ArgumentError{} = error ->
        reraise error, stacktrace

      _world ->
        error = crash(kind, reason, stacktrace)
        for picture <- pictures, do: {picture, counted(error, opts)}
    end
  end

  defp crash(kind, reason, stacktrace) do
    banner = Exception.format_banner(kind, reason, stacktrace)
    Error.error(:internal, "the work on this picture crashed: #{banner}")
  end

  defp counted({:error, error}, opts) do
    Telemetry.emit(:error, %{count: 1}, %{reason: error.reason, serving: opts.serving})
    {:error, error}
  end

  defp counted(ok, _opts), do: ok

  defp report(results, nil, _total), do: results

  defp report(results, progress, total) do
    Stream.transform(results, {0, 0}, fn {_picture, result} = one, {done, failed} ->
      failed = if match?({:error, _}, result), do: failed + 1, else: failed
      progress.(%{done: done + 1, failed: failed, total: total})
      {[one], {done + 1, failed}}
    end)
  end

  defp bang!({:ok, value}), do: value
  defp bang!({:error, error}), do: raise(error)
end
