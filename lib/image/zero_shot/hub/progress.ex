defmodule Image.ZeroShot.Hub.Progress do
  @moduledoc false

  # What is told of a download: a line for every ten per cent, or a bar that is drawn anew.

  @enforce_keys [:started]
  defstruct [:started, :first, tenths: 0]

  @typedoc "`first` is what was there when the download began, so that it does not count as speed."
  @type t :: %__MODULE__{
          started: integer(),
          first: non_neg_integer() | nil,
          tenths: 0..10
        }

  @type step :: %{required(:done) => non_neg_integer(), required(:total) => non_neg_integer()}

  @bar 24

  @doc "A download that begins now. Times are in milliseconds."
  @spec new(integer()) :: t()
  def new(now), do: %__MODULE__{started: now}

  @doc """
  The line for a step, or `nil` while the next ten per cent are not full.
  """
  @spec line(t(), step(), integer()) :: {String.t() | nil, t()}
  def line(progress, step, now) do
    progress = seen(progress, step)

    case div(percent(step), 10) do
      tenths when tenths > progress.tenths ->
        text = pad("#{tenths * 10} %", 5) <> "  " <> figures(progress, step, now)
        {text, %{progress | tenths: tenths}}

      _fewer ->
        {nil, progress}
    end
  end

  @doc """
  A bar for a step, of at most so many columns.
  """
  @spec bar(t(), step(), integer(), pos_integer()) :: {String.t(), t()}
  def bar(progress, step, now, columns) do
    progress = seen(progress, step)
    full = div(percent(step) * @bar, 100)
    bar = "[" <> String.duplicate("#", full) <> String.duplicate(".", @bar - full) <> "]"
    text = pad("#{percent(step)} %", 5) <> " " <> bar <> "  " <> figures(progress, step, now)
    {String.slice(text, 0, columns), progress}
  end

  @doc """
  A size for people, in the decimal units that download pages use.
  """
  @spec size(non_neg_integer()) :: String.t()
  def size(bytes) when bytes < 1_000, do: "#{bytes} B"
  def size(bytes) when bytes < 999_950, do: decimal(bytes, 1_000) <> " kB"
  def size(bytes) when bytes < 999_950_000, do: decimal(bytes, 1_000_000) <> " MB"
  def size(bytes), do: decimal(bytes, 1_000_000_000) <> " GB"

  defp seen(%{first: nil} = progress, step), do: %{progress | first: step.done}
  defp seen(progress, _step), do: progress

  defp percent(%{total: 0}), do: 100
  defp percent(step), do: min(div(step.done * 100, step.total), 100)

  defp figures(progress, step, now) do
    Enum.join(["#{size(step.done)} of #{size(step.total)}" | pace(progress, step, now)], ", ")
  end

  # Of the first moments nothing can be said.
  defp pace(progress, step, now) do
    {bytes, time} = {step.done - progress.first, now - progress.started}

    if bytes > 0 and time > 0 do
      left = ceil((step.total - step.done) * time / (bytes * 1_000))

      [size(div(bytes * 1_000, time)) <> "/s"] ++
        if(left > 0, do: [time(left) <> " left"], else: [])
    else
      []
    end
  end

  defp time(seconds) when seconds < 100, do: "#{seconds} s"
  defp time(seconds) when seconds < 7_200, do: "#{div(seconds, 60)} min"
  defp time(seconds), do: "#{div(seconds, 3_600)} h"

  defp decimal(bytes, unit), do: :erlang.float_to_binary(bytes / unit, decimals: 1)
  defp pad(text, width), do: String.pad_leading(text, width)
end
