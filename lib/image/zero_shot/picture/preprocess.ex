defmodule Image.ZeroShot.Picture.Preprocess do
  @moduledoc false

  # Pictures to pixels, on the native library's own threads: no scheduler is kept busy, and nothing
  # is left in the mailbox of who gives up.

  alias Image.ZeroShot.{Error, Native, Source}

  @typedoc "A moment of `System.monotonic_time(:millisecond)`."
  @type deadline :: integer() | :infinity

  @typedoc """
  How long the pixels are of use: until a moment, and while the process lives that a monitor of the
  caller watches.
  """
  @type wanted :: deadline() | {deadline(), reference()}

  @doc """
  The pixels for a model: u8, 3 x height x width, already resized and cropped.
  """
  @spec run(Source.source(), map(), map(), wanted()) :: {:ok, binary()} | {:error, Error.t()}
  def run(source, preprocessing, limits, {deadline, monitor}) do
    tag = make_ref()

    submitted =
      Native.preprocess(tag, source, preprocessing, limits, owner(), timeout(left(deadline)))

    with {:ok, job} <- Error.from_native(submitted) do
      receive do
        {^tag, answer} -> Error.from_native(answer)
        {:DOWN, ^monitor, :process, _server, _reason} -> cancel(job, tag, serving_down())
      after
        left(deadline) -> cancel(job, tag, too_late())
      end
    end
  end

  def run(source, preprocessing, limits, deadline),
    do: run(source, preprocessing, limits, {deadline, make_ref()})

  # Pictures of one owner take turns with those of others. All tasks of a process count as that
  # process, or a hundred tasks would have a hundred turns.
  defp owner, do: [self() | Process.get(:"$callers", [])] |> List.last() |> :erlang.phash2()

  defp timeout(:infinity), do: nil
  defp timeout(left), do: left

  defp left(:infinity), do: :infinity
  defp left(deadline), do: max(deadline - System.monotonic_time(:millisecond), 0)

  defp cancel(job, tag, error) do
    case Native.preprocess_cancel(job) do
      {:ok, :cancelled} -> error
      {:ok, :sent} -> receive do: ({^tag, answer} -> Error.from_native(answer))
    end
  end

  defp too_late do
    Error.error(
      :timeout,
      "the time limit of the call was reached while its picture was decoded; send a smaller one " <>
        "or raise :timeout"
    )
  end

  defp serving_down do
    Error.error(
      :serving_down,
      "the serving terminated while the picture was being decoded; try again"
    )
  end
end
