defmodule Image.ZeroShot.Hub.Progress do
  @moduledoc false

  # How far a download or a long list of pictures is, for people: a line for every ten per cent, or a
  # bar in the last line of a terminal.

  @enforce_keys [:unit, :step]
  defstruct [:unit, :step, :since, tenths: 0]

  @typedoc "`:since` is the first step. Bytes or pictures that were there before it are not speed."
  @type t :: %__MODULE__{
          unit: :bytes | :pictures,
          step: step(),
          since: {milliseconds :: integer(), done :: non_neg_integer()} | nil,
          tenths: 0..10
        }

  @type step :: %{
          required(:done) => non_neg_integer(),
          required(:total) => non_neg_integer(),
          optional(:failed) => non_neg_integer(),
          optional(atom()) => term()
        }

  @boxes 24

  # Some terminals say that they have no columns.
  @fewest_columns 20

  @spec new(:bytes | :pictures, non_neg_integer()) :: t()
  def new(unit, total \\ 0), do: %__MODULE__{unit: unit, step: %{done: 0, total: total}}

  @doc """
  Takes the next step. Times are in milliseconds.
  """
  @spec update(t(), step(), integer()) :: t()
  def update(progress, step, now),
    do: %{progress | step: step, since: progress.since || {now, step.done}}

  @doc """
  Returns a line when another ten per cent are done, and else `nil`.
  """
  @spec line(t(), integer()) :: {String.t() | nil, t()}
  def line(progress, now) do
    case div(percent(progress.step), 10) do
      tenths when tenths > progress.tenths ->
        {pad("#{tenths * 10} %") <> "  " <> figures(progress, now), %{progress | tenths: tenths}}

      _fewer ->
        {nil, progress}
    end
  end

  @doc """
  Draws the bar over the last line of a terminal with this many columns.
  """
  @spec draw(t(), integer(), non_neg_integer()) :: iodata()
  def draw(%{step: step} = progress, now, columns) do
    full = div(percent(step) * @boxes, 100)
    boxes = String.duplicate("#", full) <> String.duplicate(".", @boxes - full)
    text = "#{pad("#{percent(step)} %")} [#{boxes}]  #{figures(progress, now)}"
    # In its last column a terminal may begin a new line.
    ["\r", String.slice(text, 0, max(columns, @fewest_columns) - 1), "\e[K"]
  end

  @doc """
  Clears the line that `draw/3` drew.
  """
  @spec clear() :: iodata()
  def clear, do: "\r\e[K"

  @doc """
  A size for people, in the decimal units that download pages use.
  """
  @spec size(non_neg_integer()) :: String.t()
  def size(bytes) when bytes < 1_000, do: "#{bytes} B"
  def size(bytes) when bytes < 999_950, do: decimal(bytes / 1_000) <> " kB"
  def size(bytes) when bytes < 999_950_000, do: decimal(bytes / 1_000_000) <> " MB"
  def size(bytes), do: decimal(bytes / 1_000_000_000) <> " GB"

  defp percent(%{total: 0}), do: 100
  defp percent(step), do: min(div(step.done * 100, step.total), 100)

  defp figures(%{step: step, unit: unit} = progress, now) do
    failed = Map.get(step, :failed, 0)
    done = "#{amount(step.done, unit)} of #{amount(step.total, unit)}"
    failures = if failed > 0, do: ["#{failed} failed"], else: []
    Enum.join([done | failures ++ pace(progress, now)], ", ")
  end

  # Too early for a rate before the second step.
  defp pace(%{since: {since, first}, step: step, unit: unit}, now)
       when step.done > first and now > since do
    {done, time} = {step.done - first, now - since}
    left = ceil((step.total - step.done) * time / (done * 1_000))
    [rate(done, time, unit) | if(left > 0, do: [time(left) <> " left"], else: [])]
  end

  defp pace(_progress, _now), do: []

  defp amount(bytes, :bytes), do: size(bytes)
  defp amount(count, :pictures), do: "#{count}"

  defp rate(bytes, time, :bytes), do: size(div(bytes * 1_000, time)) <> "/s"
  defp rate(count, time, :pictures), do: decimal(count * 1_000 / time) <> " a second"

  defp time(seconds) when seconds < 100, do: "#{seconds} s"
  defp time(seconds) when seconds < 7_200, do: "#{div(seconds, 60)} min"
  defp time(seconds), do: "#{div(seconds, 3_600)} h"

  defp decimal(number), do: :erlang.float_to_binary(number / 1, decimals: 1)
  defp pad(text), do: String.pad_leading(text, 5)
end
