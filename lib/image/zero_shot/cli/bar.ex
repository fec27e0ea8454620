defmodule Image.ZeroShot.CLI.Bar do
  @moduledoc false

  # How far a long list is, in the last line of a terminal. Where there is none, nothing.

  @enforce_keys [:total, :columns]
  defstruct [:total, :columns, :since, done: 0, failed: 0]

  @typedoc "`since` is when the first was done: the model may have to be loaded before."
  @type t :: %__MODULE__{
          total: non_neg_integer(),
          columns: pos_integer() | nil,
          since: {ms :: integer(), done :: pos_integer()} | nil,
          done: non_neg_integer(),
          failed: non_neg_integer()
        }

  @width 24

  # A terminal of no width is one all the same.
  @fewest_columns 20

  @spec new(non_neg_integer(), non_neg_integer() | nil) :: t()
  def new(total, columns),
    do: %__MODULE__{total: total, columns: columns && max(columns, @fewest_columns)}

  @spec step(t(), :ok | :error, integer()) :: t()
  def step(bar, result, now) do
    done = bar.done + 1
    failed = if result == :error, do: bar.failed + 1, else: bar.failed
    %{bar | done: done, failed: failed, since: bar.since || {now, done}}
  end

  @spec draw(t(), integer()) :: iodata() | nil
  def draw(%{columns: nil}, _now), do: nil

  def draw(bar, now) do
    full = div(bar.done * @width, max(bar.total, 1))
    boxes = String.duplicate("#", full) <> String.duplicate(".", @width - full)
    percent = String.pad_leading("#{div(bar.done * 100, max(bar.total, 1))} %", 5)
    text = "#{percent} [#{boxes}]  " <> Enum.join(figures(bar) ++ pace(bar, now), ", ")
    ["\r", String.slice(text, 0, bar.columns - 1), "\e[K"]
  end

  @spec clear(t()) :: iodata() | nil
  def clear(%{columns: nil}), do: nil
  def clear(_bar), do: "\r\e[K"

  defp figures(bar) do
    failed = if bar.failed > 0, do: ["#{bar.failed} failed"], else: []
    ["#{bar.done} of #{bar.total}" | failed]
  end

  # Of the first moments nothing can be said.
  defp pace(%{since: {since, first}} = bar, now) when bar.done > first and now > since do
    speed = (bar.done - first) * 1_000 / (now - since)
    left = ceil((bar.total - bar.done) / speed)
    shown = ["#{:erlang.float_to_binary(speed, decimals: 1)} a second"]
    if left > 0, do: shown ++ [time(left) <> " left"], else: shown
  end

  defp pace(_bar, _now), do: []

  defp time(seconds) when seconds < 100, do: "#{seconds} s"
  defp time(seconds) when seconds < 7_200, do: "#{div(seconds, 60)} min"
  defp time(seconds), do: "#{div(seconds, 3_600)} h"
end
