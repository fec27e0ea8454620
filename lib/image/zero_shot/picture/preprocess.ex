defmodule Image.ZeroShot.Picture.Preprocess do
  @moduledoc false

  # Pictures to pixels, on the native library's own threads: no scheduler is kept busy, and nothing
  # is left in the mailbox of who gives up.

  alias Image.ZeroShot.{Error, Native, Source}
  alias Image.ZeroShot.Call.Deadline

  @doc """
  The pixels for a model: u8, 3 x height x width, already resized and cropped.

  Waits for them until the deadline, and while the process lives that `monitor` watches.
  """
  @spec run(Source.source(), map(), map(), Deadline.t(), reference()) ::
          {:ok, binary()} | {:error, Error.t()}
  def run(source, preprocessing, limits, deadline, monitor \\ make_ref()) do
    tag = make_ref()
    timeout = deadline |> Deadline.remaining() |> timeout()
    submitted = Native.preprocess(tag, source, preprocessing, limits, owner(), timeout)

    with {:ok, job} <- Error.from_native(submitted) do
      receive do
        {^tag, answer} -> Error.from_native(answer)
        {:DOWN, ^monitor, :process, _server, reason} -> cancel(job, tag, serving_down(reason))
      after
        Deadline.remaining(deadline) -> cancel(job, tag, too_late())
      end
    end
  end

  # Pictures of one owner take turns with those of others. All tasks of a process count as that
  # process, or a hundred tasks would have a hundred turns.
  defp owner, do: [self() | Process.get(:"$callers", [])] |> List.last() |> :erlang.phash2()

  defp timeout(:infinity), do: nil
  defp timeout(left), do: left

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

  # A serving of another node says why.
  defp serving_down({:shutdown, %Error{} = error}), do: {:error, error}

  defp serving_down(_reason) do
    Error.error(
      :serving_down,
      "the serving terminated while the picture was being decoded; try again"
    )
  end
end
