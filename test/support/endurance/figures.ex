defmodule Image.ZeroShot.Test.Figures do
  @moduledoc false

  # Which model the checks of endurance use, and how their figures are printed.

  @doc """
  Options of the model: the directory in `ENDURANCE_MODEL`, else the one that comes along.
  """
  def model do
    case System.get_env("ENDURANCE_MODEL") do
      nil -> embedded()
      directory -> [repo: {:local, Path.expand(directory)}, device: :cpu]
    end
  end

  def embedded, do: [repo: :embedded, device: :cpu]

  @doc "Whether the model takes as long as one for photographs, and as much memory."
  def full_size?, do: System.get_env("ENDURANCE_MODEL") != nil

  def quantile(sorted, part), do: Enum.at(sorted, trunc(part * (length(sorted) - 1)))

  @doc "Prints a line of what was measured."
  def report(text), do: IO.puts("  " <> text)

  @doc "Sorted microseconds, in milliseconds."
  def times(sorted) do
    [p50, p99, max] = for part <- [0.5, 0.99, 1.0], do: ms(quantile(sorted, part))
    "p50 #{p50} ms, p99 #{p99} ms, most #{max} ms, of #{length(sorted)}"
  end

  def mb(kilobytes), do: "#{Float.round(kilobytes / 1024, 1)} MB"
  def ms(microseconds), do: Float.round(microseconds / 1000, 1)
end
