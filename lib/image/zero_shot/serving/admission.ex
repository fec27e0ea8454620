defmodule Image.ZeroShot.Serving.Admission do
  @moduledoc false

  # Admission control, on the caller's side: admits calls that will meet their deadline.
  #
  # The wait is estimated from the queued work and its recent cost. A call can be late in two ways: the
  # decoding threads have too much before it (the native library knows), or the model has (the gate
  # knows). Pictures are decoded while the model runs, so the longer of the two counts. Where both share
  # the cores, their recent costs include that. A call that waits for no other is always admitted.
  #
  # Costs change while a call waits. So twice the estimate has to fit into its time, and waiting calls
  # are judged again, less strictly: by the native library after each picture, by the serving after each
  # batch.

  alias Image.ZeroShot.{Error, Native, Telemetry}
  alias Image.ZeroShot.Call.Deadline
  alias Image.ZeroShot.Serving.{Directory, Gate, Lease, Pace, Queue, TextCache}

  @margin 2

  @typedoc """
  What a call will ask for: how many pictures, and how many of those this node decodes; which
  prompts; and in how many parts they go, which share its time.
  """
  @type needs :: %{
          pictures: non_neg_integer(),
          decoded_here: non_neg_integer(),
          prompts: [String.t()],
          parts: pos_integer()
        }

  @doc """
  Admits the calling process, which leaves by `Gate.leave/1`. Returns how many milliseconds the model
  will take once the call has its pixels, `0` if no other call is before it.
  """
  @spec enter(Directory.entry(), timeout(), needs()) ::
          {:ok, non_neg_integer()} | :inside | :gone | {:error, Error.t()}
  # Before the model is loaded the timeout does not run, and costs are unknown.
  def enter(%{gate: gate, info: nil}, _timeout, needs),
    do: gate |> Gate.enter({:short, pictures(needs)}, nil, :infinity) |> told(gate)

  def enter(%{gate: gate, info: info} = entry, timeout, needs) do
    work = work(entry, needs)
    left = share(timeout, work)

    with {:ok, run_ms} <- gate |> Gate.enter(work, info, left) |> told(gate) do
      last_ms = Gate.last_ms(gate)
      needed = max(run_ms, decoding(needs, run_ms, last_ms))

      case in_time(needed, left, timeout) do
        :ok ->
          {:ok, min(needed, last_ms)}

        refused ->
          Gate.leave(gate)
          told(refused, gate)
      end
    end
  end

  @doc """
  Whether this node will decode the pictures in time, for a serving of another one.
  """
  @spec decoding_in_time(needs(), timeout()) :: :ok | {:error, Error.t()}
  def decoding_in_time(needs, timeout),
    do: in_time(decoding(needs, 0, 0), share(timeout, {:short, 0}), timeout)

  @doc """
  Until when pixels are of use: what the model will take is left of the time, or half of it at least.
  """
  @spec decode_until(Deadline.t(), timeout(), non_neg_integer()) :: Deadline.t()
  def decode_until(:infinity, :infinity, _run_ms), do: :infinity
  def decode_until(deadline, timeout, run_ms), do: deadline - min(run_ms, div(timeout, 2))

  @doc """
  What came of the decoding, of which an end before the deadline of the call is a refusal.
  """
  @spec judge(outcome, Lease.t()) :: outcome | {:error, Error.t()} when outcome: term()
  def judge(
        {:error, %Error{reason: :timeout}},
        %{decode_until: until, deadline: deadline} = lease
      )
      when until < deadline do
    message =
      "the picture was decoded too late for the model, which others keep busy; try again later"

    told(Error.error(:overloaded, message), Lease.gate(lease))
  end

  def judge(outcome, _lease), do: outcome

  @doc """
  Turns a refusal into an error, and emits an event for it.
  """
  @spec told(outcome | atom(), Gate.t() | nil) :: outcome | {:error, Error.t()}
        when outcome: term()
  def told(:full, %{max: max} = gate) do
    callers = if max == 1, do: "caller", else: "callers"
    refused("the serving is full (limit: #{max} #{callers})", gate)
  end

  def told(:too_many_prompts, %{max: max} = gate),
    do: refused("too many prompts wait (limit: #{Gate.max_prompts(max)})", gate)

  # A serving of another node tells its own node.
  def told(refused, nil), do: refused

  def told({:error, %Error{reason: :overloaded}} = refused, gate) do
    Telemetry.emit(:overload, %{count: 1}, %{max_queue: gate.max})
    refused
  end

  def told(other, _gate), do: other

  defp refused(fault, gate),
    do: told(Error.error(:overloaded, fault <> "; try again later"), gate)

  # How much of its time a call may need by the estimate. That each part of a long list waits for
  # others is reckoned with already.
  defp share(:infinity, _work), do: :infinity
  defp share(timeout, {:long, _prompts, _parts}), do: timeout
  defp share(timeout, {:short, _work}), do: div(timeout, @margin)

  # No number is more than the atom :infinity.
  defp in_time(needed, left, _timeout) when needed <= left, do: :ok

  defp in_time(needed, _left, timeout) do
    Error.error(
      :overloaded,
      "the call would take about #{needed} ms, too long for its :timeout of #{timeout} ms; try " <>
        "again later"
    )
  end

  # Prompts that are known cost nothing.
  defp work(%{cache: cache, info: info}, needs) do
    prompts = TextCache.count_new(cache, needs.prompts)
    part = prompts |> div_up(needs.parts) |> min(Pace.most(info.max_batch))

    case Queue.lane(info.max_batch, part) do
      :short -> {:short, pictures(needs) + prompts}
      :long -> {:long, part, div_up(prompts, part)}
    end
  end

  defp pictures(needs), do: needs.pictures * Pace.prompts_a_picture()
  defp div_up(number, by), do: div(number + by - 1, by)

  # How long a call takes whose pictures are decoded here, if anything is in its way.
  defp decoding(%{decoded_here: 0}, _run_ms, _last_ms), do: 0

  defp decoding(%{decoded_here: count}, run_ms, last_ms) do
    {:ok, %{wait_ms: wait, each_ms: each}} = Native.pixel_threads()
    if wait == 0 and run_ms == 0, do: 0, else: wait + count * each + last_ms
  end
end
