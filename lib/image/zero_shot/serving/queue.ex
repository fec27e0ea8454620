defmodule Image.ZeroShot.Serving.Queue do
  @moduledoc false

  # Requests that wait, and the batches made of them. Plain data, no process.

  alias Image.ZeroShot.Serving.Request

  # A prompt takes a 16th of the time of a picture, or less (ViT-B/32 on a CPU).
  @prompts_a_picture 16

  @enforce_keys [:max_batch]
  defstruct [:max_batch, waiting: :queue.new(), length: 0, dropped: 0]

  @type t :: %__MODULE__{
          max_batch: pos_integer(),
          waiting: :queue.queue(Request.t()),
          length: non_neg_integer(),
          dropped: non_neg_integer()
        }

  @spec new(pos_integer()) :: t()
  def new(max_batch), do: %__MODULE__{max_batch: max_batch}

  @doc """
  The most prompts that one request may hold, so that no batch takes longer than one of pictures.
  """
  @spec max_prompts(pos_integer()) :: pos_integer()
  def max_prompts(max_batch), do: max_batch * @prompts_a_picture

  @spec push(t(), Request.t()) :: t()
  def push(queue, request) do
    %{queue | waiting: :queue.in(request, queue.waiting), length: queue.length + 1}
  end

  @doc """
  Puts the requests of a batch that failed back to the front, to be run one by one.
  """
  @spec push_back_alone(t(), [Request.t()]) :: t()
  def push_back_alone(queue, requests) do
    requests
    |> Enum.reverse()
    |> Enum.reduce(queue, fn request, queue ->
      waiting = :queue.in_r(%{request | alone: true}, queue.waiting)
      %{queue | waiting: waiting, length: queue.length + 1}
    end)
  end

  @doc """
  Takes what goes as one batch, oldest first, and drops what nobody waits for any more.
  """
  @spec pop_batch(t()) :: {[Request.t()], t()}
  def pop_batch(queue), do: pop_batch(queue, [], max_prompts(queue.max_batch))

  defp pop_batch(queue, batch, room) do
    with {:value, request} <- :queue.peek(queue.waiting),
         :wanted <- wanted(request) do
      cost = length(request.pixels) * @prompts_a_picture + length(request.prompts)

      cond do
        batch == [] and (request.alone or cost >= room) -> {[request], drop(queue)}
        request.alone or cost > room -> {Enum.reverse(batch), queue}
        true -> queue |> drop() |> pop_batch([request | batch], room - cost)
      end
    else
      :empty -> {Enum.reverse(batch), queue}
      :unwanted -> queue |> drop() |> count_dropped(1) |> pop_batch(batch, room)
    end
  end

  @doc """
  Drops what nobody waits for any more, wherever it stands.
  """
  @spec sweep(t()) :: t()
  def sweep(queue) do
    waiting = :queue.filter(&(wanted(&1) == :wanted), queue.waiting)
    length = :queue.len(waiting)
    count_dropped(%{queue | waiting: waiting, length: length}, queue.length - length)
  end

  @spec to_list(t()) :: [Request.t()]
  def to_list(queue), do: :queue.to_list(queue.waiting)

  defp wanted(%Request{caller: caller, deadline: deadline}) do
    if Process.alive?(caller) and System.monotonic_time(:millisecond) < deadline,
      do: :wanted,
      else: :unwanted
  end

  defp drop(queue), do: %{queue | waiting: :queue.drop(queue.waiting), length: queue.length - 1}

  defp count_dropped(queue, number), do: %{queue | dropped: queue.dropped + number}
end
