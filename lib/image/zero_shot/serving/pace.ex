defmodule Image.ZeroShot.Serving.Pace do
  @moduledoc false

  # The recent cost of runs, and with it the estimate of how long waiting work will take. Plain data,
  # not a process.
  #
  # Work is counted in prompts; a picture counts as 16.

  @prompts_a_picture 16

  # The part of the sums that a full batch leaves. A small batch says little about large ones, so it
  # leaves more.
  @kept 0.7
  @smallest_share 0.1

  # Batches of less than this part of a full one do not tell what a full one costs.
  @rough 0.25

  # So many times as large as the mean is a batch at most, until more is known; and so many pictures
  # is the first one. A full batch of a slow model could outlast the time of all its callers.
  @growth 4

  defstruct time: 0.0, work: 0.0, batches: 0.0

  @type t :: %__MODULE__{time: float(), work: float(), batches: float()}

  @typedoc """
  The nanoseconds that the work of one prompt takes, and a batch; and the work of a batch. All `0`
  where nothing is known.
  """
  @type rates :: {prompt :: non_neg_integer(), batch :: non_neg_integer(), non_neg_integer()}

  @typedoc """
  What a call brings: the work of a short one, or of a long one the prompts that wait at a time, and
  how many times so many there are.
  """
  @type work :: {:short, non_neg_integer()} | {:long, pos_integer(), parts :: pos_integer()}

  @typedoc "The work of short calls, the number of long ones, and how many prompts of them wait."
  @type ahead :: %{short: integer(), long: integer(), prompts: integer()}

  @typedoc "What the estimate needs to know of the model."
  @type model :: %{
          required(:max_batch) => pos_integer(),
          required(:concurrency) => pos_integer(),
          optional(atom()) => term()
        }

  # A prompt takes a 16th of the time of a picture, or less (ViT-B/32 on a CPU).
  @spec prompts_a_picture() :: pos_integer()
  def prompts_a_picture, do: @prompts_a_picture

  @doc """
  The work of a full batch.
  """
  @spec most(pos_integer()) :: pos_integer()
  def most(max_batch), do: max_batch * @prompts_a_picture

  @doc """
  The work of a batch at most, that of the next one being known from those before.
  """
  @spec room(t(), pos_integer()) :: pos_integer()
  def room(%{batches: batches}, max_batch) when batches == 0,
    do: min(most(max_batch), @growth * @prompts_a_picture)

  def room(pace, max_batch),
    do: min(most(max_batch), max(round(@growth * pace.work / pace.batches), @prompts_a_picture))

  @doc """
  Takes a batch of this work into account.
  """
  @spec record(t(), work :: pos_integer(), nanoseconds :: integer(), pos_integer()) :: t()
  def record(pace, work, took, max_batch) do
    kept = :math.pow(@kept, min(max(work / most(max_batch), @smallest_share), 1))

    %__MODULE__{
      time: kept * pace.time + took,
      work: kept * pace.work + work,
      batches: kept * pace.batches + 1
    }
  end

  @spec rates(t()) :: rates()
  def rates(%{batches: batches}) when batches == 0, do: {0, 0, 0}

  def rates(%{time: time, work: work, batches: batches}),
    do: {round(time / work), round(time / batches), round(work / batches)}

  @doc """
  Estimates how many milliseconds this work takes after the work `ahead`, when `left` remain.

  Short calls and parts of long ones take turns, batch by batch. So a short call waits for all short
  ones, and for a part of a long one with each batch of them; a part of a long one waits for a part
  of each other one, and for a batch of short ones each time.
  """
  @spec milliseconds(ahead(), work(), model(), rates(), left :: timeout()) :: non_neg_integer()
  def milliseconds(ahead, {:short, own}, model, rates, left) do
    batches = div(ahead.short + own, most(model.max_batch)) + 1
    turns = min(ahead.long, batches)
    long = if turns > 0, do: div(ahead.prompts * turns, ahead.long), else: 0
    time(ahead.short + own + long, model, rates, left)
  end

  def milliseconds(ahead, {:long, own, parts}, model, rates, left) do
    batch = min(ahead.short, most(model.max_batch))
    time(parts * (own + ahead.prompts + batch * (ahead.long + 1)), model, rates, left)
  end

  @doc """
  A part of what is ahead: so many of all calls in this lane.
  """
  @spec part(ahead(), :short | :long, non_neg_integer(), non_neg_integer()) :: ahead()
  def part(ahead, _lane, _some, 0), do: ahead
  def part(ahead, :short, some, all), do: %{ahead | short: div(ahead.short * some, all)}

  def part(ahead, :long, some, all),
    do: %{ahead | long: min(some, ahead.long), prompts: div(ahead.prompts * some, all)}

  # Proportional to the work. But most of a small batch's cost is fixed: if only small ones have run, and
  # there is time to try a larger one, the work counts as full batches that take as long as those.
  defp time(work, model, {prompt, batch, batch_work}, left) do
    full = most(model.max_batch)
    proportional = to_ms(work * prompt, model)
    rough? = batch_work < @rough * full and 4 * @growth * to_ms(batch, %{concurrency: 1}) <= left

    if rough? and proportional > left,
      do: to_ms((div(work, full) + 1) * batch, model),
      else: proportional
  end

  defp to_ms(nanoseconds, model), do: div(nanoseconds, model.concurrency * 1_000_000)
end
