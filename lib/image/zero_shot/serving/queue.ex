defmodule Image.ZeroShot.Serving.Queue do
  @moduledoc false

  # Waiting requests, and the batches made of them. Plain data, not a process.
  #
  # There are two lanes: requests with many prompts, which are parts of long lists, and all others. The
  # older of their first ones goes first, but after a batch with a part of a long list comes one of other
  # requests. So short requests wait for one such part, however many callers have long lists, and long lists
  # do not starve. In each lane owners take turns. A caller has one request in the queue at a time, but all
  # tasks of a process are callers of one owner.
  #
  # A batch is small enough to finish before the deadline of each of its requests.

  alias Image.ZeroShot.Serving.{Pace, Request, Turns}

  # A quarter of the time in reserve.
  @margin 1.25

  # Prompts beyond this part of a batch make a request a long one.
  @long 0.25

  @enforce_keys [:max_batch]
  defstruct [
    :max_batch,
    short: %Turns{},
    long: %Turns{},
    work: %{short: 0, long: 0, prompts: 0},
    last: :short,
    length: 0,
    dropped: 0
  ]

  @type lane :: :short | :long

  @type t :: %__MODULE__{
          max_batch: pos_integer(),
          short: Turns.t(Request.t()),
          long: Turns.t(Request.t()),
          work: Pace.ahead(),
          last: lane(),
          length: non_neg_integer(),
          dropped: non_neg_integer()
        }

  @spec new(pos_integer()) :: t()
  def new(max_batch), do: %__MODULE__{max_batch: max_batch}

  @doc """
  The most prompts that one request may hold, so that no batch takes longer than one of pictures.
  """
  @spec max_prompts(pos_integer()) :: pos_integer()
  def max_prompts(max_batch), do: Pace.most(max_batch)

  @doc """
  The lane of a request with so many prompts.
  """
  @spec lane(pos_integer(), non_neg_integer()) :: lane()
  def lane(max_batch, prompts),
    do: if(prompts > @long * max_prompts(max_batch), do: :long, else: :short)

  @spec push(t(), Request.t()) :: t()
  def push(queue, request), do: put(queue, request, &Turns.push/3)

  @doc """
  Puts the requests of a batch that failed back to the front, to be run one by one.
  """
  @spec push_back_alone(t(), [Request.t()]) :: t()
  def push_back_alone(queue, requests) do
    requests
    |> Enum.reverse()
    |> Enum.reduce(
      queue,
      &put(&2, %{&1 | alone: true}, fn lane, owner, one -> Turns.push_front(lane, owner, one) end)
    )
  end

  defp put(queue, request, insert) do
    lane = lane(queue.max_batch, length(request.prompts))

    queue
    |> Map.update!(lane, &insert.(&1, request.owner, request))
    |> count(lane, request, 1)
  end

  defp count(queue, lane, request, number) do
    work = number * Request.work(request)
    %{queue | length: queue.length + number, work: add_work(queue.work, lane, work, number)}
  end

  defp add_work(sums, :short, work, _number), do: %{sums | short: sums.short + work}

  defp add_work(sums, :long, work, number),
    do: %{sums | long: sums.long + number, prompts: sums.prompts + work}

  @doc """
  Takes the next batch at this pace, and drops requests whose caller died or timed out.
  """
  @spec pop_batch(t(), Pace.t()) :: {[Request.t()], t()}
  def pop_batch(queue, pace \\ %Pace{}) do
    {short, queue} = head(queue, :short)
    {long, queue} = head(queue, :long)

    case turn(short, long, queue.last) do
      :none -> {[], queue}
      # One part of a long list. More parts join only if room is left after all short requests.
      :long -> fill(queue, [long: 1, short: :infinity, long: :infinity], pace)
      :short -> fill(queue, [short: :infinity, long: :infinity], pace)
    end
  end

  defp turn(nil, nil, _last), do: :none
  defp turn(_short, nil, _last), do: :short
  defp turn(nil, _long, _last), do: :long
  defp turn(_short, _long, :long), do: :short
  defp turn(short, long, :short), do: if(long.since < short.since, do: :long, else: :short)

  defp fill(queue, lanes, pace) do
    {prompt, _batch, _work} = Pace.rates(pace)
    room = Pace.room(pace, queue.max_batch)
    batch = %{requests: [], work: 0, until: :infinity, prompt: prompt, room: room}

    {batch, queue} =
      Enum.reduce(lanes, {batch, queue}, fn {lane, most}, {batch, queue} ->
        draw(queue, lane, most, batch)
      end)

    case Enum.reverse(batch.requests) do
      # Their time was over a moment ago.
      [] -> {[], queue}
      [first | _] = all -> {all, %{queue | last: lane(queue.max_batch, length(first.prompts))}}
    end
  end

  defp draw(queue, _lane, 0, batch), do: {batch, queue}

  defp draw(queue, lane, most, batch) do
    with {%Request{} = request, queue} <- head(queue, lane),
         true <- fits?(batch, request) do
      draw(drop(queue, lane), lane, less(most), add(batch, request))
    else
      {nil, queue} -> {batch, queue}
      false -> {batch, queue}
    end
  end

  defp less(:infinity), do: :infinity
  defp less(most), do: most - 1

  # A request larger than a batch runs alone, as does one whose batch failed.
  defp fits?(%{requests: []}, _request), do: true
  defp fits?(%{requests: [%{alone: true} | _]}, _request), do: false
  defp fits?(_batch, %{alone: true}), do: false

  defp fits?(batch, request) do
    work = batch.work + Request.work(request)
    work <= batch.room and in_time?(work, batch.prompt, min(batch.until, request.deadline))
  end

  defp in_time?(_work, _prompt, :infinity), do: true
  defp in_time?(work, prompt, until), do: now() + div(work * prompt, 1_000_000) <= until

  defp add(batch, request) do
    %{
      batch
      | requests: [request | batch.requests],
        work: batch.work + Request.work(request),
        until: min(batch.until, request.deadline)
    }
  end

  @doc """
  Whether one more request would be done too late, where the model is free in `start` milliseconds.
  """
  @spec late?(t(), Request.t(), non_neg_integer(), Pace.model(), Pace.rates()) :: boolean()
  def late?(_queue, %{deadline: :infinity}, _start, _model, _rates), do: false
  def late?(_queue, _request, _start, _model, {0, 0, 0}), do: false

  def late?(queue, request, start, model, rates) do
    left = round((request.deadline - now()) / @margin)
    work = Request.work(request)

    work =
      case lane(queue.max_batch, length(request.prompts)) do
        :short -> {:short, work}
        :long -> {:long, work, 1}
      end

    # A request that is late already is dropped without an answer: its caller has given up.
    left > 0 and start + Pace.milliseconds(ahead(queue, request), work, model, rates, left) > left
  end

  # What goes before one more request, those of the same length being taken for equal.
  defp ahead(%{work: work} = queue, request) do
    case lane(queue.max_batch, length(request.prompts)) do
      :short ->
        Pace.part(work, :short, Turns.before(queue.short, request.owner), queue.short.length)

      :long ->
        Pace.part(work, :long, Turns.before(queue.long, request.owner), queue.long.length)
    end
  end

  @doc """
  Takes out all that would be done too late.
  """
  @spec take_late(t(), non_neg_integer(), Pace.model(), Pace.rates()) :: {[Request.t()], t()}
  def take_late(queue, start, model, rates) do
    judge = fn request, {late, kept} ->
      if late?(kept, request, start, model, rates),
        do: {[request | late], kept},
        else: {late, push(kept, request)}
    end

    # In the order in which they go, each behind those that stay.
    empty = %{new(queue.max_batch) | last: queue.last, dropped: queue.dropped}
    queue |> to_list() |> Enum.reduce({[], empty}, judge)
  end

  # The oldest request of a lane whose caller still waits.
  defp head(queue, lane) do
    case Turns.peek(Map.fetch!(queue, lane)) do
      :empty ->
        {nil, queue}

      {:value, request} ->
        if wanted?(request),
          do: {request, queue},
          else: queue |> drop(lane) |> count_dropped(1) |> head(lane)
    end
  end

  @doc """
  Drops requests whose caller died or timed out, anywhere in the queue.
  """
  @spec sweep(t()) :: t()
  def sweep(queue) do
    wanted = queue |> to_list() |> Enum.filter(&wanted?/1)
    empty = %{new(queue.max_batch) | last: queue.last, dropped: queue.dropped}
    kept = Enum.reduce(wanted, empty, &push(&2, &1))
    count_dropped(kept, queue.length - kept.length)
  end

  @doc """
  All requests, those of each lane in the order in which they go.
  """
  @spec to_list(t()) :: [Request.t()]
  def to_list(queue), do: merge(Turns.to_list(queue.short), Turns.to_list(queue.long))

  defp merge([one | _] = all, [other | rest]) when other.since < one.since,
    do: [other | merge(all, rest)]

  defp merge([one | rest], others), do: [one | merge(rest, others)]
  defp merge([], others), do: others

  defp wanted?(%Request{caller: caller, deadline: deadline}),
    do: Process.alive?(caller) and now() < deadline

  defp now, do: System.monotonic_time(:millisecond)

  defp drop(queue, lane) do
    {request, left} = queue |> Map.fetch!(lane) |> Turns.pop()
    queue |> Map.put(lane, left) |> count(lane, request, -1)
  end

  defp count_dropped(queue, number), do: %{queue | dropped: queue.dropped + number}
end
